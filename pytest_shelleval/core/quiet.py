"""A quiet moment: turns, shared or exclusive, for executions; and a wait for a free processor.

A turn is a lock on files that the processes of a run share, so that it ends with its process. Nobody
waits for ever: after some time a turn begins even if others have not ended theirs.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

_STEP = 0.05
# Seconds that an exclusive turn waits for the shared ones to end.
_PATIENCE = 120.0
# Seconds that any other waits for the exclusive turn to end: a setup, a command and a condition.
_LONGEST = 600.0
# Seconds to wait for a free processor, between looks, and the idle fraction that counts as free.
_FREE_PATIENCE, _FREE_STEP, _FREE = 10.0, 0.25, 0.8


class Turn:
    """One turn, until :meth:`end`."""

    def __init__(self, descriptors: list[int]) -> None:
        self._descriptors = descriptors

    def end(self) -> None:
        """End the turn, so that others can begin; may be repeated."""
        while self._descriptors:
            os.close(self._descriptors.pop())


class Turns:
    """The turns of all processes and threads that use the same folder."""

    def __init__(self, folder: Path) -> None:
        """*folder* exists, on a local file system."""
        self._door = folder / "door.lock"
        self._room = folder / "room.lock"

    def take(self, *, alone: bool = False) -> Turn:
        """Wait for a turn; *alone*: until all others have ended. Without locks it begins at once."""
        # an exclusive turn locks the door first, so that no new ones enter the room
        door = _lock(self._door, alone, _LONGEST)
        room = _lock(self._room, alone, _PATIENCE if alone else _LONGEST)
        if alone:
            return Turn(room + door)
        Turn(door).end()
        return Turn(room)


def wait_for_a_processor() -> None:
    """Wait until a processor is idle, 10 s at most; not at all if the system does not report it."""
    deadline = time.monotonic() + _FREE_PATIENCE
    since, idle = time.monotonic(), _idle()
    while idle is not None and since < deadline:
        time.sleep(_FREE_STEP)
        now, idle_now = time.monotonic(), _idle()
        if idle_now is None or idle_now - idle >= _FREE * (now - since):
            return
        since, idle = now, idle_now


def _idle() -> float | None:
    """Seconds that this machine's processors were idle, in all since boot; None if unknown."""
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/stat", "rb") as file:
        # cpu, user, nice, system, idle, iowait
        fields = file.readline().split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    return None


def _lock(path: Path, alone: bool, seconds: float) -> list[int]:
    """Lock *path*, exclusively or shared; returns the descriptor that holds it, none without a lock."""
    try:
        import fcntl  # not on every system
    except ImportError:
        return []
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + seconds
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                    return [descriptor]
                time.sleep(_STEP)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    return []
