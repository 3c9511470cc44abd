"""Watches the processes of a sandbox from its first one: memory, their number, the disk."""

from __future__ import annotations

import os

_FIRST_LOOK = 0.05
_PAUSE = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Below the limit, because the number of a command's processes fluctuates at its limit.
_CROWD_MARGIN = 4


class Watchdog:
    """Sums the use of all processes 20 times a second; short commands end before its first look."""

    def __init__(self, memory: int, most_processes: int) -> None:
        self._memory = memory
        self._most_processes = most_processes
        self.next_look = 0.0
        self.crowded = False

    def start(self, now: float) -> None:
        """Call when a step begins."""
        self.next_look = now + _FIRST_LOOK
        self.crowded = False

    def look(self, now: float) -> str | None:
        """The limit that is exceeded, if any."""
        self.next_look = now + _PAUSE
        resident = 0
        running = processes()
        for process in running:
            content = read(f"/proc/{process}/statm").split()
            if len(content) > 2:
                resident += int(content[1])
        if len(running) >= self._most_processes - _CROWD_MARGIN:
            self.crowded = True
            # If the kernel does not count processes per sandbox (before Linux 5.14).
            if len(running) > self._most_processes + _CROWD_MARGIN:
                return "processes"
        # Resident memory includes files, and counts shared memory more than once; only above the
        # limit is the exact count, which is slow, needed.
        if resident * _PAGE > self._memory and sum(map(_own_memory, running)) > self._memory:
            return "memory"
        return None


def _own_memory(process: str) -> int:
    """Bytes of memory that belong to no file; shared memory in proportion."""
    total = 0
    for line in read(f"/proc/{process}/smaps_rollup").splitlines():
        if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
            total += int(line.split()[1]) << 10
    return total


def left_behind(session: int) -> bool:
    """Whether there are processes besides the *session*'s shell (0 if it is gone) and the first."""
    expected = [b"%d" % session] if session else []
    children = read("/proc/1/task/1/children").split()
    return children != expected or bool(
        session and read(f"/proc/{session}/task/{session}/children")
    )


def processes() -> list[str]:
    """The ids of all processes of the sandbox except its first."""
    return [name for name in os.listdir("/proc") if name[0].isdigit() and name != "1"]


def read(path: str) -> bytes:
    """The first 4096 bytes of a kernel file; empty if it can't be read."""
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
    """Whether a process besides the *session*'s shell and the first has *pipe* as its output."""
    if not left_behind(session):
        return False  # the usual case, which two short reads show
    own = str(session)
    name = f"pipe:[{os.fstat(pipe).st_ino}]"
    for process in processes():
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
