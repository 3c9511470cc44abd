"""Execution without pytest: for notebooks, scripts, and rewards in reinforcement learning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from itertools import count

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.execution import ExecutionPolicy, Score
from pytest_shelleval.core.results import Result, empty_command
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.engine.job import Job, execute
from pytest_shelleval.engine.pool import Planned, Pool
from pytest_shelleval.engine.threads import Threads
from pytest_shelleval.sandboxes.base import Limits, SandboxSpec
from pytest_shelleval.sandboxes.registry import check, concurrency, provide

_AHEAD = 4
"""Jobs submitted ahead, for each that runs at a time."""


def evaluate(
    pairs: Iterable[tuple[Task, Command | str | None]],
    *,
    executor: Executor | None = None,
    max_workers: int | None = None,
    sandbox: str | SandboxSpec = "auto",
    policy: ExecutionPolicy | None = None,
    score: Score | None = None,
) -> Iterator[Result]:
    """Run commands in sandboxes and judge them, several at a time; results come in the order of *pairs*.

    Each pair is a task and the command for it: a :class:`Command`, the text of one, or None where the
    model gave none, which is a failure. *sandbox* is a kind (``auto``, ``local``, ``docker``, ``sos``
    or another package's) or a whole specification. *max_workers* executions run at a time, by default
    as many as suit the kind. *executor* runs them elsewhere (a ``ProcessPoolExecutor``, Dask's or
    another): jobs and results are pickled, and each of its processes has sandboxes of its own.
    *score* decides in place of the condition, see ``pytest_shelleval_score``; it is called by several
    threads, and not with an *executor*.

    A failure of the infrastructure is in the result: ``status`` is ``error``. Raises
    SandboxUnavailable, before anything is run, if there can be no sandbox; ValueError for *score* with
    an *executor*; and what *executor* raises if it is lost.
    """
    if executor is not None and score is not None:
        raise ValueError("score runs in threads of this process: leave it out, or the executor")
    spec = sandbox if isinstance(sandbox, SandboxSpec) else SandboxSpec(sandbox, Limits())
    spec = replace(spec, kind=check(spec), sos_urls=tuple(spec.sos_urls))
    workers = concurrency(spec) if max_workers is None else max_workers
    return _results(pairs, executor, workers, spec, policy or ExecutionPolicy(), score)


def _results(
    pairs: Iterable[tuple[Task, Command | str | None]],
    executor: Executor | None,
    workers: int,
    spec: SandboxSpec,
    policy: ExecutionPolicy,
    score: Score | None,
) -> Iterator[Result]:
    with contextlib.ExitStack() as stack:
        if executor is None:
            provider = provide(spec)
            stack.callback(provider.close)
            threads = Threads(provider, workers, score=lambda job: score)
            stack.callback(threads.end)

        def submit(job: Job) -> Future[Result]:
            if job.command.generated_command is None:
                return _no_command(job)
            return threads.submit(job) if executor is None else executor.submit(execute, job)

        planned = (
            Planned(str(number), Job(task, _command(task, given), policy, spec))
            for number, (task, given) in enumerate(pairs)
        )
        pool = Pool(submit, planned, ahead=workers * _AHEAD)
        stack.callback(pool.cancel)
        for number in count():
            try:
                result, _ = pool.take(str(number))
            except KeyError:
                return
            yield result


def _command(task: Task, given: Command | str | None) -> Command:
    if isinstance(given, Command):
        return given
    return replace(empty_command(task, None, 0), generated_command=given)


def _no_command(job: Job) -> Future[Result]:
    result = Result.of(job.task, job.command)
    result.fail_without_command(job.command.error or "the model gave no command")
    future: Future[Result] = Future()
    future.set_result(result)
    return future
