"""Looking after the processes of a sandbox from its first one: memory, their number, the disk."""

from __future__ import annotations

import os

_FIRST_LOOK = 0.05
_PAUSE = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Fewer than the limit, for a command at its limit has some processes that come and go.
_CROWD_MARGIN = 4


def processes() -> list[str]:
    """The ids of all processes but the first."""
    return [name for name in os.listdir("/proc") if name[0].isdigit() and name != "1"]


class Watchdog:
    """Sums what processes use, some times a second; short commands end before its first look."""

    def __init__(self, memory: int, most_processes: int, now: float) -> None:
        self.next_look = now + _FIRST_LOOK
        self.crowded = False
        self._memory = memory
        self._most_processes = most_processes

    def look(self, now: float) -> str | None:
        """The limit that was passed, if one was."""
        self.next_look = now + _PAUSE
        total = count = 0
        for process in processes():
            count += 1
            try:
                descriptor = os.open(f"/proc/{process}/statm", os.O_RDONLY)
            except OSError:
                continue
            try:
                _, resident, shared, *_ = os.read(descriptor, 256).split()
            except (OSError, ValueError):
                continue
            finally:
                os.close(descriptor)
            # Shared pages are files, which the limit on disk bounds.
            total += int(resident) - int(shared)
        if count >= self._most_processes - _CROWD_MARGIN:
            self.crowded = True
        return "memory" if total * _PAGE > self._memory else None


def full_disk() -> str | None:
    """``disk`` if nothing more can be written."""
    try:
        state = os.statvfs("/")
    except OSError:
        return None
    return "disk" if not state.f_bavail or not state.f_favail else None


def others_write(pipe: int, besides: int) -> bool:
    """Whether a process has *pipe* as its output, apart from *besides* and the first."""
    name = f"pipe:[{os.fstat(pipe).st_ino}]"
    for process in processes():
        if process == str(besides):
            continue
        for descriptor in (1, 2):
            try:
                if os.readlink(f"/proc/{process}/fd/{descriptor}") == name:
                    return True
            except OSError:
                continue
    return False
