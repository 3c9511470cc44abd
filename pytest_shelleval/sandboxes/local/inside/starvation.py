"""Detects that other load on the machine starved the processes of a sandbox, by the kernel's counters.

The scheduler counts for each thread how long it ran and how long it waited for a processor. Waiting
counts only as far as others used the processors meanwhile, and only one processor is due to a sandbox:
a command that starts a hundred busy loops starves itself. Waiting does not count for threads that
lowered their own priority or pinned themselves to a processor.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from pytest_shelleval.sandboxes.local.inside.watch import processes, read

_PAUSE = 0.25
_SHORTEST = 1.0
_FAIR = 0.5
_LOST = 0.25
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def starved(wall: float, ran: float, others: float, counted: tuple[float, float]) -> float | None:
    """The fraction of the processor time due that the sandbox got, if less than half; else None.

    All in seconds: in the *wall* time, the sandbox's processes *ran* and everything else on the
    machine ran for *others*. *counted* is how long some of the processes ran, and how long they
    waited. The time due is what one processor would have given them without the others. Processes
    that seldom need a processor are not starved: they must have lost a quarter of the wall time.
    """
    running, waiting = counted
    wanted = ran + (waiting * ran / running if running else waiting)
    due = min(wanted, wall, ran + others)
    if wall < _SHORTEST or due - ran < _LOST * wall or ran >= _FAIR * due:
        return None
    return ran / due


class Share:
    """Measures the share of processor time during a step, in the sandbox's first process."""

    def __init__(self) -> None:
        self.next_look = 0.0
        self._processors = os.sched_getaffinity(0)
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._threads: dict[str, tuple[int, int, bool]] = {}
        self._counted = [0, 0]
        self._first: tuple[float, float, float] | None = None

    def start(self) -> None:
        """Call when a step begins; short ones end before the first look."""
        self._first = None
        self.next_look = 0.0

    def look(self, now: float) -> None:
        """Update the counts."""
        self.next_look = now + _PAUSE
        threads = dict(self._times())
        if self._first is None:
            self._first = _spent()
            self._counted = [0, 0]
        else:
            for name, (ran, waited, ordinary) in threads.items():
                ran_before, waited_before, was = self._threads.get(name, (0, 0, True))
                self._counted[0] += max(0, ran - ran_before)
                if ordinary and was:
                    self._counted[1] += max(0, waited - waited_before)
        self._threads = threads

    def starved(self) -> float | None:
        """The result of :func:`starved` for the step that has just ended."""
        if self._first is None or time.monotonic() - self._first[0] < _SHORTEST:
            return None
        wall, ran, busy = (
            after - before for before, after in zip(self._first, _spent(), strict=True)
        )
        running, waiting = self._counted
        return starved(wall, ran, max(0.0, busy - ran), (running / 1e9, waiting / 1e9))

    def _times(self) -> Iterator[tuple[str, tuple[int, int, bool]]]:
        """For each thread: nanoseconds that it ran and waited, whether its scheduling is unchanged."""
        for process in processes():
            for thread in _names(f"/proc/{process}/task"):
                folder = f"/proc/{process}/task/{thread}"
                fields, times = _fields(folder), read(f"{folder}/schedstat").split()
                if len(times) > 1 and fields:
                    ordinary = self._ordinary(int(thread), fields)
                    yield thread, (int(times[0]), int(times[1]), ordinary)

    def _ordinary(self, thread: int, fields: list[bytes]) -> bool:
        try:
            processors = os.sched_getaffinity(thread)
        except OSError:
            return False
        niceness, policy = int(fields[16]), int(fields[38])
        return (niceness, policy, processors) == (self._niceness, 0, self._processors)


def _spent() -> tuple[float, float, float]:
    """Seconds: the clock, processor time of this sandbox, busy time of all processors."""
    ticks = 0
    for process in (*processes(), "1"):
        # of itself and of the children that it has waited for
        ticks += sum(map(int, _fields(f"/proc/{process}")[11:15]))
    # user, nice, system, idle, iowait, irq, softirq, steal
    busy = list(map(int, read("/proc/stat").split(None, 9)[1:9]))
    del busy[3:5]
    return time.monotonic(), ticks * _TICK, sum(busy) * _TICK


def _fields(folder: str) -> list[bytes]:
    """The fields after the name in a stat file: its third field is the first here."""
    return read(f"{folder}/stat").rpartition(b")")[2].split()


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
