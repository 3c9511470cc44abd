"""Runs jobs ahead of the consumer of their results, in order and within bounds."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from pytest_shelleval.core.results import Result
from pytest_shelleval.engine.job import Job

MOST_BYTES = 64 << 20
"""Limit on the bytes of output in results that wait to be taken."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A job of a pool."""

    name: str
    """Unique in a pool."""
    job: Job
    shared: str | None = None
    """Equal for jobs of which only one is run; None for a job that shares with none."""


@dataclass(slots=True)
class _Entry:
    future: Future[Result]
    planned: Planned
    runner: str
    """The name of the job that is run; another job's if the execution is shared."""
    bytes: int = 0


class Pool:
    """Submits jobs to an executor, at most *ahead* beyond the last one that was taken.

    Used by one thread. :meth:`take` returns results in the order of the jobs; skipped jobs are
    dropped.
    """

    def __init__(
        self,
        submit: Callable[[Job], Future[Result]],
        jobs: Iterable[Planned],
        *,
        ahead: int,
        most_bytes: int = MOST_BYTES,
        repeated: Mapping[str, int] | None = None,
    ) -> None:
        """*repeated*: the number of jobs for each ``shared``; jobs not in it share with none."""
        self._submit = submit
        self._jobs = iter(jobs)
        self._ahead = max(1, ahead)
        self._most_bytes = most_bytes
        self._waiting: dict[str, _Entry] = {}
        self._bytes = 0
        self._lock = threading.Lock()
        self._uses = Counter(repeated or {})
        self._shared: dict[str, _Entry] = {}

    def take(self, name: str) -> tuple[Result, str]:
        """Wait for the result of the job *name*; also return the name of the job run for it.

        Raises KeyError if there is no such job, and whatever the executor raises.
        """
        entry = self._reach(name)
        self._fill()
        try:
            result = entry.future.result()
        except BaseException:
            if not entry.future.done():  # the wait was interrupted
                self._waiting[name] = entry
            raise
        self._forget(entry)
        if entry.runner != name and result.status == "error":
            # another job's error says nothing about this one
            entry = self._own(entry.planned)
            result = entry.future.result()
        return result, entry.runner

    def again(self, job: Job) -> Result:
        """Run *job* again, after the jobs already submitted, and return its result."""
        return self._submit(job).result()

    def cancel(self) -> None:
        """Submit no more jobs, and cancel those that have not started."""
        self._jobs = iter(())
        for entry in self._waiting.values():
            entry.future.cancel()

    def finished(self) -> Iterator[tuple[str, Result, str]]:
        """Name, result and runner (as of :meth:`take`) of jobs that ended but were not taken."""
        for name, entry in self._waiting.items():
            future = entry.future
            if future.done() and not future.cancelled() and future.exception() is None:
                yield name, future.result(), entry.runner

    def _reach(self, name: str) -> _Entry:
        """The entry of *name*; those before it are dropped."""
        while name not in self._waiting:
            if not self._next():
                raise KeyError(name)
        for other in list(self._waiting):
            entry = self._waiting.pop(other)
            if other == name:
                return entry
            if entry.runner == other and entry.planned.shared is None:
                entry.future.cancel()
            self._forget(entry)
        raise KeyError(name)

    def _fill(self) -> None:
        while len(self._waiting) < self._ahead and self._bytes < self._most_bytes:
            if not self._next():
                return

    def _next(self) -> bool:
        planned = next(self._jobs, None)
        if planned is None:
            return False
        shared = planned.shared if planned.shared in self._uses else None
        if shared is not None and shared in self._shared:
            first = self._shared[shared]
            self._waiting[planned.name] = _Entry(first.future, planned, first.runner)
            return True
        entry = self._own(planned)
        self._waiting[planned.name] = entry
        if shared is not None:
            self._shared[shared] = entry
        return True

    def _own(self, planned: Planned) -> _Entry:
        entry = _Entry(self._submit(planned.job), planned, planned.name)
        entry.future.add_done_callback(lambda future: self._count(entry))
        return entry

    def _count(self, entry: _Entry) -> None:
        """Count the waiting output of a job that has ended; called in any thread."""
        future = entry.future
        if future.cancelled() or future.exception() is not None:
            return
        result = future.result()
        texts = (result.setup_output, result.command_output, result.test_output)
        with self._lock:
            entry.bytes = sum(len(text) for text in texts if text)
            self._bytes += entry.bytes

    def _forget(self, entry: _Entry) -> None:
        """Note that one use of *entry* is over."""
        shared = entry.planned.shared
        if shared is not None and shared in self._uses:
            self._uses[shared] -= 1
            if self._uses[shared] > 0:
                return
            entry = self._shared.pop(shared, entry)
        with self._lock:
            self._bytes -= entry.bytes
            entry.bytes = 0
