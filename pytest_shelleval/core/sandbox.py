"""What a task runs in: the contract between the execution of tasks and every kind of sandbox.

A sandbox is used for one task and thrown away. It offers a persistent bash *session* and fresh
*standalone* shells, and no access to the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ExecResult:
    """The outcome of one piece of shell text."""

    output: str
    """stdout and stderr merged as they came, decoded as UTF-8; other bytes become ``\\xNN``
    (``errors="backslashreplace"``)."""
    exit_code: int | None
    """0 to 255, 128 + signal number for a killed shell; None if there is none (timed out)."""
    exited: bool = False
    """Session only: the text ended the session's shell (``exit``, ``exec``, ``set -e``, a kill)."""
    timed_out: bool = False
    """The wall time was up; every process of the sandbox except its supervisor was killed."""
    truncated: bool = False
    """The output was longer than the limit on output."""
    limit: str | None = None
    """The limit that was hit, if known: ``memory``, ``disk``, ``processes``."""
    duration: float = 0.0
    """Wall seconds."""
    missing_capability: str | None = None
    """What the text needed and the sandbox can't give on this machine, though a container could:
    ``ids``, users and groups other than root."""
    starved: float | None = None
    """The fraction of the processor time due to the text's processes that they got, 0 to 1, if other
    load on the machine left them less than half of it. None: they had their share, or unknown."""


@runtime_checkable
class Sandbox(Protocol):
    """One sandbox. Its methods block; it is used by one thread at a time.

    Every method but :meth:`close` raises :class:`~pytest_shelleval.core.errors.SandboxError` when
    the sandbox itself fails (died, unreachable), never because of what commands do.
    """

    @property
    def id(self) -> str:
        """The sandbox's name in results and logs."""
        ...

    @property
    def info(self) -> Mapping[str, Any]:
        """JSON object for the result's ``sandbox`` field: ``kind``, ``image`` or ``rootfs``, ``id``."""
        ...

    def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
        """Run *text* as one fresh ``bash -c``, stdin at EOF, in *cwd* (the start directory if None).

        *timeout* is wall seconds. *text* may be of any length and hold any character; NUL
        characters are dropped, as bash drops them. Background processes are left running.
        """
        ...

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        """Run *text* in the persistent session, which keeps directory, variables and functions.

        Raises SandboxError if an earlier text has ended the session.
        """
        ...

    def session_directory(self) -> str:
        """The session's current directory, or where it was when it ended."""
        ...

    def close(self) -> None:
        """Kill every process of the sandbox and free its resources. Never raises; may be repeated."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """Optional for a sandbox: copy the state of one sandbox to another.

    Used to reuse setups, if the provider has an attribute ``snapshots``, a
    :class:`~pytest_shelleval.core.snapshots.Snapshots`.
    """

    def snapshot(self) -> bytes | None:
        """Everything written in this sandbox; None if that can't be restored exactly.

        That is so when processes are left running, or when there is too much.
        """
        ...

    def restore(self, snapshot: bytes) -> None:
        """Bring this sandbox, in which nothing has run, to the state of *snapshot*.

        Raises SandboxError; the sandbox is then unusable.
        """
        ...


class Observant(Protocol):
    """Optional for a sandbox: report what commands did."""

    def mark(self) -> None:
        """Make :meth:`effects` ignore everything done so far: the setup's work."""
        ...

    def effects(self) -> Mapping[str, Any]:
        """What has been done since the mark, as a JSON object; raises SandboxError.

        ``created``, ``changed``, ``deleted``: lists of ``{path, kind, size}``, sorted by path, up to
        50 each; ``more``: how many more there are, by the list's name. ``outside``: how many of all
        are outside the start directory. ``processes``: names of those left running. ``network``:
        ``{unreachable, lookups}``, connection attempts without a route, and queries to a name server
        that does not exist. ``tampered``: programs and libraries of the system that were changed or
        hidden by others; ``removed``: those that were removed. ``partial``: there was too much to
        look at all of it.
        """
        ...


class SandboxProvider(Protocol):
    """Hands out fresh sandboxes; one per process that runs tasks."""

    @property
    def info(self) -> Mapping[str, Any]:
        """JSON object that identifies the kind: ``kind`` and ``image`` or ``rootfs``."""
        ...

    def acquire(self) -> Sandbox:
        """A fresh sandbox, one created ahead if available.

        Raises SandboxError (worth a retry) or SandboxUnavailable (not worth one).
        """
        ...

    def close(self) -> None:
        """Close everything that is still open. Never raises; may be repeated."""
        ...
