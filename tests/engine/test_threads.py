"""Executions in threads, in real sandboxes."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.execution import Cancellation, ExecutionPolicy
from pytest_shelleval.core.results import Result, empty_command
from pytest_shelleval.core.sandbox import Sandbox
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.engine.job import Job, ScoreFailed, close_providers, execute, provider_for
from pytest_shelleval.engine.threads import Threads
from pytest_shelleval.sandboxes.base import Limits, SandboxSpec
from pytest_shelleval.sandboxes.registry import provide

SPEC = SandboxSpec("local", Limits())


def job(text: str, condition: str = "true", setup: tuple[str, ...] = ()) -> Job:
    task = Task("t", "do it", setup, condition)
    command: Command = replace(empty_command(task, "m", 0), generated_command=text)
    return Job(task, command, ExecutionPolicy(), SPEC, execution_key="k")


def test_one_job() -> None:
    result = execute(job("cp a b", "cmp a b", ("echo 1 > a",)), worker="w")
    assert (result.status, result.worker, result.execution_key) == ("passed", "w", "k")
    assert execute(job("cp a c", "cmp a b", ("echo 1 > a",))).status == "failed"
    assert execute(job("true", setup=("exit 3",))).error_kind == "setup"


def test_a_provider_for_each_kind_and_process() -> None:
    first = provider_for(SPEC)
    assert provider_for(SPEC) is first
    assert provider_for(replace(SPEC, limits=Limits(memory=1 << 28))) is not first
    close_providers()
    assert provider_for(SPEC) is not first
    close_providers()


def test_many_at_once() -> None:
    provider = provide(SPEC)
    threads = Threads(provider, 4)
    met = threading.Barrier(4, timeout=60)

    def together(result: Result, sandbox: Sandbox) -> None:
        met.wait()  # only passes where four are under way

    four = Threads(provider, 4, score=lambda job: together)
    try:
        futures = [four.submit(job(f"echo {n} > a", f"grep {n} a")) for n in range(4)]
        assert [future.result(60).status for future in futures] == ["passed"] * 4
        futures = [threads.submit(job(f"echo {n} > a", f"grep -x {n} a")) for n in range(20)]
        assert [future.result(60).status for future in futures] == ["passed"] * 20
    finally:
        threads.end()
        four.end()
        provider.close()


def test_the_end_kills_what_is_under_way() -> None:
    provider = provide(SPEC)
    threads = Threads(provider, 2)
    begun = threading.Event()
    acquire = provider.acquire

    def noticed() -> Sandbox:
        begun.set()
        return acquire()

    provider.acquire = noticed  # type: ignore[method-assign]
    running, waiting = threads.submit(job("sleep 1000")), threads.submit(job("sleep 1000"))
    last = threads.submit(job("true"))
    assert begun.wait(60)
    threads.end()
    provider.close()
    assert last.cancelled()
    for future in (running, waiting):
        assert future.cancelled() or future.result(0).error_kind == "interrupted"


def test_a_cancelled_job_is_not_tried_again() -> None:
    cancellation = Cancellation()
    results: list[Result] = []
    thread = threading.Thread(
        target=lambda: results.append(execute(job("sleep 1000"), cancellation=cancellation))
    )
    thread.start()
    deadline = time.monotonic() + 60
    while cancellation.sandbox is None and time.monotonic() < deadline:
        time.sleep(0.01)
    cancellation.cancel()
    thread.join(60)
    assert (results[0].status, results[0].error_kind) == ("error", "interrupted")
    assert results[0].attempt == 1
    close_providers()


def test_own_code_that_raises() -> None:
    def score(result: Result, sandbox: Sandbox) -> float:
        raise LookupError("no such file")

    with pytest.raises(ScoreFailed) as caught:
        execute(job("true"), score=score)
    assert caught.value.result.error == "LookupError: no such file"
    assert isinstance(caught.value.__cause__, LookupError)
    close_providers()
