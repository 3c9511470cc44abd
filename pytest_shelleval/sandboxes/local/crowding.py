"""Detects that no more processes may be started here, which shows as all sorts of errors."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
from collections.abc import Iterator
from pathlib import Path

# A sandbox has about six processes and threads: its first one, two shells, those of a command.
_ROOM = 12


def crowded() -> str:
    """A sentence that says that too many processes run, and how to fix it; empty if there is room.

    RLIMIT_NPROC counts the processes and threads of a user, including those in all sandboxes; root's
    are not limited (setrlimit(2)). A control group counts those in it, of any user.
    """
    return _crowded_user() or _crowded_group()


def refusals() -> int:
    """How many processes the host's control groups have refused so far at their limits."""
    return sum(
        int(line.split()[1])
        for folder, _ in _limited_groups()
        for line in _lines(folder / "pids.events")
        if line.startswith("max ")
    )


def refused() -> str:
    """A sentence that says that the host refused a process, and how to fix it."""
    limits = ", ".join(f"{limit} in {folder}" for folder, limit in _limited_groups())
    return (
        f"the host refused a process: its control groups allow {limits}: raise pids.max "
        "(TasksMax=, --pids-limit), or run fewer workers"
    )


def _crowded_group() -> str:
    for folder, limit in _limited_groups():
        running = int("".join(_lines(folder / "pids.current")) or 0)
        if running + _ROOM > limit:
            return (
                f"the control group {folder} has {running} processes and threads and may have "
                f"{limit}: raise its pids.max (TasksMax=, --pids-limit), or run fewer workers"
            )
    return ""


@functools.cache
def _limited_groups() -> list[tuple[Path, int]]:
    """The control groups of this process that limit the number of processes, and the limits."""
    return list(_find_limited_groups())


def _find_limited_groups() -> Iterator[tuple[Path, int]]:
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "pids"):
            continue
        root = Path("/sys/fs/cgroup", controllers)
        group = root / path.lstrip("/")
        # in a container the path may exist only on the host
        for folder in (group, *group.parents) if group.is_dir() else (root,):
            if folder.is_relative_to(root):
                limit = "".join(_lines(folder / "pids.max"))
                if limit.isdigit():
                    yield folder, int(limit)


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().splitlines()
    return []


def _crowded_user() -> str:
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
