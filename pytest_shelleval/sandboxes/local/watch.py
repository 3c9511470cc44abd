"""Looking after the processes of a sandbox from its first one: memory, their number, the disk."""

from __future__ import annotations

import os

_FIRST_LOOK = 0.05
_PAUSE = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Fewer than the limit, for a command at its limit has some processes that come and go.
_CROWD_MARGIN = 4


class Watchdog:
    """Sums what processes use, some times a second; short commands end before its first look."""

    def __init__(self, memory: int, most_processes: int, now: float) -> None:
        self.next_look = now + _FIRST_LOOK
        self.crowded = False
        self._memory = memory
        self._most_processes = most_processes

    def look(self, now: float) -> bool:
        """Whether the processes use too much memory."""
        self.next_look = now + _PAUSE
        total = count = 0
        for process in _processes():
            count += 1
            content = _read(f"/proc/{process}/statm").split()
            if len(content) > 2:
                # Shared pages are files, which the limit on disk bounds.
                total += int(content[1]) - int(content[2])
        if count >= self._most_processes - _CROWD_MARGIN:
            self.crowded = True
        return total * _PAGE > self._memory


def _processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name[0].isdigit() and name != "1"]


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def full_disk() -> bool:
    """Whether nothing more can be written."""
    try:
        state = os.statvfs("/")
    except OSError:
        return False
    return not state.f_bavail or not state.f_favail


def others_write(pipe: int, session: int) -> bool:
    """Whether a process has *pipe* as its output, apart from the *session*'s shell and the first."""
    own = str(session)
    children = _read("/proc/1/task/1/children").split()
    if children == [own.encode()] and not _read(f"/proc/{own}/task/{own}/children"):
        return False  # the usual case, told by two short reads
    name = f"pipe:[{os.fstat(pipe).st_ino}]"
    for process in _processes():
        if process != own and (
            _link(f"/proc/{process}/fd/1") == name or _link(f"/proc/{process}/fd/2") == name
        ):
            return True
    return False


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
