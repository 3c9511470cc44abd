"""Runs executions in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from pytest_shelleval.core.execution import Cancellation, Score
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.engine.job import Job, execute


class Threads:
    """Runs jobs in threads, in sandboxes of one provider."""

    def __init__(
        self,
        provider: SandboxProvider,
        concurrency: int,
        *,
        score: Callable[[Job], Score | None] = lambda job: None,
    ) -> None:
        """*provider*, and the functions that *score* returns, must be thread-safe."""
        self._provider = provider
        self._score = score
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="shelleval")
        self._running: set[Cancellation] = set()
        self._lock = threading.Lock()
        self._ended = False

    def submit(self, job: Job) -> Future[Result]:
        """Run *job* as soon as a thread is free. Raises RuntimeError after :meth:`end`."""
        return self._executor.submit(self._run, job)

    def _run(self, job: Job) -> Result:
        cancellation = Cancellation()
        with self._lock:
            cancellation.cancelled = self._ended
            self._running.add(cancellation)
        try:
            return execute(
                job, provider=self._provider, score=self._score(job), cancellation=cancellation
            )
        finally:
            with self._lock:
                self._running.discard(cancellation)

    def end(self) -> None:
        """Stop the jobs under way and wait for them; their results have the kind ``interrupted``."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._ended = True
            running = list(self._running)
        for each in running:
            each.cancel()
        self._executor.shutdown(wait=True)
