"""What all kinds of sandbox share: limits, and where shells start.

The contract itself, :class:`Sandbox` and :class:`SandboxProvider`, stands in
:mod:`pytest_shelleval.core.sandbox`.
"""

from __future__ import annotations

from dataclasses import dataclass

START_DIRECTORY = "/home/shellm"
"""HOME of the sandbox's root and the directory in which every shell starts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of one sandbox. A command that hits one has failed by its own doing."""

    memory: int = 1 << 30
    """Bytes of resident memory, summed over all processes."""
    disk: int = 256 << 20
    """Bytes that may be written."""
    processes: int = 256
    """Processes and threads alive at once."""
    output: int = 1 << 20
    """Bytes of output kept per step; the rest is read and thrown away."""
