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

    def __init__(self, memory: int, most_processes: int) -> None:
        self._memory = memory
        self._most_processes = most_processes
        self.next_look = 0.0
        self.crowded = False

    def start(self, now: float) -> None:
        """A step begins."""
        self.next_look = now + _FIRST_LOOK
        self.crowded = False

    def look(self, now: float) -> str | None:
        """The limit that is passed, if one is."""
        self.next_look = now + _PAUSE
        resident = 0
        running = processes()
        for process in running:
            content = read(f"/proc/{process}/statm").split()
            if len(content) > 2:
                resident += int(content[1])
        if len(running) >= self._most_processes - _CROWD_MARGIN:
            self.crowded = True
            # Where the kernel does not count processes per sandbox (before Linux 5.14).
            if len(running) > self._most_processes + _CROWD_MARGIN:
                return "processes"
        # What is resident contains files, and what processes share more than once: only then is
        # it worth while to count exactly.
        if resident * _PAGE > self._memory and sum(map(_own_memory, running)) > self._memory:
            return "memory"
        return None


def _own_memory(process: str) -> int:
    """Bytes of memory that is no file's; what is shared, by parts."""
    total = 0
    for line in read(f"/proc/{process}/smaps_rollup").splitlines():
        if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
            total += int(line.split()[1]) << 10
    return total


def left_behind(session: int) -> bool:
    """Whether there are processes apart from the *session*'s shell (0 if it is gone) and the first."""
    expected = [b"%d" % session] if session else []
    children = read("/proc/1/task/1/children").split()
    return children != expected or bool(
        session and read(f"/proc/{session}/task/{session}/children")
    )


def processes() -> list[str]:
    """The ids of all processes of the sandbox but its first."""
    return [name for name in os.listdir("/proc") if name[0].isdigit() and name != "1"]


def read(path: str) -> bytes:
    """The start of a file of the kernel's; empty where there is none."""
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
    if not left_behind(session):
        return False  # the usual case, told by two short reads
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
