"""Whether this user may start no more processes, which looks like all sorts of trouble."""

from __future__ import annotations

import contextlib
import os
import resource

# A sandbox is some six processes and threads: its first one, two shells, those of a command.
_ROOM = 12


def crowded() -> str:
    """A sentence that says so, with what to do; empty where there is room.

    RLIMIT_NPROC counts the processes and threads of a user, in all sandboxes too; root's are not
    limited (setrlimit(2)).
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return ""
    running = _tasks_of(os.getuid())
    if running + _ROOM <= limit:
        return ""
    return (
        f"this user runs {running} processes and threads and may run {limit}: raise the limit "
        "(ulimit -u), or run fewer workers"
    )


def _tasks_of(user: int) -> int:
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, StopIteration):
                with open(f"/proc/{name}/status") as file:
                    fields = dict(line.split(":", 1) for line in file)
                if int(fields["Uid"].split()[0]) == user:
                    found += int(fields["Threads"])
    return found
