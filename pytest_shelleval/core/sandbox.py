"""What a task runs in: the contract between the execution of tasks and every kind of sandbox.

A sandbox is used for one task and thrown away. It offers a persistent bash *session*, fresh
*standalone* shells beside it, and nothing of the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How one piece of shell text ended."""

    output: str
    """stdout and stderr merged as they came, decoded as UTF-8; bytes that are not UTF-8 stand as
    ``\\xNN`` (``errors="backslashreplace"``)."""
    exit_code: int | None
    """0 to 255, 128 + signal number for a killed shell; None where there is none (timed out)."""
    exited: bool = False
    """Session only: the text ended the session's shell (``exit``, ``exec``, ``set -e``, a kill)."""
    timed_out: bool = False
    """The wall time was up, and every process of the sandbox but its supervisor was killed."""
    truncated: bool = False
    """There was more output than the limit on output."""
    limit: str | None = None
    """The limit that was hit, if one is known to have been: ``memory``, ``disk``, ``processes``."""
    duration: float = 0.0
    """Wall seconds."""
    missing_capability: str | None = None
    """What the text asked for and the sandbox can't give on this machine, though a container could:
    ``ids``, users and groups beside root."""
    starved: float | None = None
    """Where the rest of the machine left the text's processes less than half of the processor time
    that they were due: the part that they got, 0 to 1. None: they had their share, or nobody knows."""


@runtime_checkable
class Sandbox(Protocol):
    """One sandbox. Its methods block; it is used by one thread at a time.

    Every method but :meth:`close` raises :class:`~pytest_shelleval.core.errors.SandboxError` when
    the sandbox itself fails (died, unreachable); what commands do never raises.
    """

    @property
    def id(self) -> str:
        """Names this sandbox in results and logs."""
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

        Raises SandboxError when an earlier text has ended the session.
        """
        ...

    def session_directory(self) -> str:
        """The session's current directory, or where it was when it ended."""
        ...

    def close(self) -> None:
        """End every process of the sandbox and free what it holds. Never raises; may be repeated."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """What a sandbox may offer beside: to be made what another one was.

    Setups are repeated so where its provider has an attribute ``snapshots``, a
    :class:`~pytest_shelleval.core.snapshots.Snapshots`.
    """

    def snapshot(self) -> bytes | None:
        """All that was written in this sandbox; None where that can't be repeated exactly.

        So it is when processes are left, or when there is too much.
        """
        ...

    def restore(self, snapshot: bytes) -> None:
        """Make this sandbox, in which nothing has run, what the other one was.

        Raises SandboxError, and then the sandbox is of no more use.
        """
        ...


class Observant(Protocol):
    """What a sandbox may offer beside: an account of what commands did."""

    def mark(self) -> None:
        """Have :meth:`effects` leave out all that has been done so far: the setup's work."""
        ...

    def effects(self) -> Mapping[str, Any]:
        """What has been done since the mark, as a JSON object; raises SandboxError.

        ``created``, ``changed``, ``deleted``: lists of ``{path, kind, size}``, sorted by path, up to
        50 each; ``more``: how many more there are, by the list's name. ``outside``: how many of all
        are outside the start directory. ``processes``: names of those left running. ``network``:
        ``{unreachable, lookups}``, attempts that found no way out, and questions to a name server
        that is not there. ``tampered``: programs and libraries of the system that are no longer what
        they were, or hidden by others; ``removed``: those that are gone. ``partial``: there was too
        much to look at all of it.
        """
        ...


class SandboxProvider(Protocol):
    """Hands out fresh sandboxes; one per process that runs tasks."""

    @property
    def info(self) -> Mapping[str, Any]:
        """JSON object that says which kind this is: ``kind`` and ``image`` or ``rootfs``."""
        ...

    def acquire(self) -> Sandbox:
        """A fresh sandbox, from those made ahead if there is one.

        Raises SandboxError (worth another try) or SandboxUnavailable (not worth one).
        """
        ...

    def close(self) -> None:
        """Close everything that is still open. Never raises; may be repeated."""
        ...
