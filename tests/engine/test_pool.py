"""A pool runs ahead of its consumer, in order and within bounds."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor, Future

import pytest

from pytest_shelleval.core.execution import ExecutionPolicy
from pytest_shelleval.core.results import Result, empty_command
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.engine.job import Job
from pytest_shelleval.engine.pool import Planned, Pool
from pytest_shelleval.sandboxes.base import Limits, SandboxSpec

SPEC = SandboxSpec("local", Limits())


def planned(name: str, shared: str | None = None) -> Planned:
    task = Task(name, f"do {name}", (), "true")
    return Planned(name, Job(task, empty_command(task, None, 0), ExecutionPolicy(), SPEC), shared)


class Executor:
    """Runs nothing by itself: the test says when a job ends, and how."""

    def __init__(self) -> None:
        self.futures: dict[str, Future[Result]] = {}
        self.submitted: list[str] = []

    def submit(self, job: Job) -> Future[Result]:
        name = job.task.task_id
        self.submitted.append(name)
        self.futures[name] = Future()
        return self.futures[name]

    def finish(self, name: str, *, status: str = "passed", output: str = "") -> None:
        task = Task(name, name, (), "true")
        result = Result.of(task, empty_command(task, None, 0))
        result.status, result.command_output = status, output  # type: ignore[assignment]
        self.futures[name].set_result(result)


class Eager(Executor):
    """Each job has ended as soon as it is submitted."""

    def __init__(self, *errors: str, output: str = "") -> None:
        super().__init__()
        self._errors, self._output = errors, output

    def submit(self, job: Job) -> Future[Result]:
        future = super().submit(job)
        name = job.task.task_id
        failed = name in self._errors and self.submitted.count(name) == 1
        self.finish(name, status="error" if failed else "passed", output=self._output)
        return future


class Half(Executor):
    """Only the jobs that are named end."""

    def __init__(self, *ending: str) -> None:
        super().__init__()
        self._ending = ending

    def submit(self, job: Job) -> Future[Result]:
        future = super().submit(job)
        if job.task.task_id in self._ending:
            self.finish(job.task.task_id)
        return future


def names(count: int) -> list[str]:
    return [f"t{n}" for n in range(count)]


def jobs(names: Iterable[str]) -> list[Planned]:
    return [planned(name) for name in names]


def test_it_is_ahead_by_so_many_jobs() -> None:
    executor = Eager()
    pool = Pool(executor.submit, jobs(names(9)), ahead=3)
    assert executor.submitted == []
    for taken, submitted in ((0, 4), (1, 5), (2, 6)):
        result, runner = pool.take(f"t{taken}")
        assert (result.command.task_id, runner) == (f"t{taken}", f"t{taken}")
        assert executor.submitted == names(submitted)


def test_output_that_waits_is_bounded() -> None:
    executor = Eager(output="x" * 100)
    pool = Pool(executor.submit, jobs(names(9)), ahead=8, most_bytes=250)
    pool.take("t0")
    assert executor.submitted == names(3)  # 300 bytes
    pool.take("t1")
    assert executor.submitted == names(4)


def test_what_is_left_out_is_given_up() -> None:
    executor = Half("t0", "t4")
    pool = Pool(executor.submit, jobs(names(6)), ahead=3)
    pool.take("t0")
    pool.take("t4")  # t1 to t3 were deselected or skipped
    assert [executor.futures[name].cancelled() for name in names(6)[1:4]] == [True] * 3
    assert not executor.futures["t5"].cancelled()
    with pytest.raises(KeyError, match="t1"):
        pool.take("t1")


def test_equal_jobs_are_run_once() -> None:
    executor = Eager(output="same")
    planned_jobs = [planned(name, "key") for name in names(3)] + [planned("t3", "other")]
    pool = Pool(executor.submit, planned_jobs, ahead=4, repeated={"key": 3})
    taken = [pool.take(name) for name in names(4)]
    assert [runner for _, runner in taken] == ["t0", "t0", "t0", "t3"]
    assert [result.command_output for result, _ in taken] == ["same"] * 4
    assert executor.submitted == ["t0", "t3"]


def test_an_error_is_not_shared() -> None:
    executor = Eager("t0")
    planned_jobs = [planned(name, "key") for name in names(3)]
    pool = Pool(executor.submit, planned_jobs, ahead=4, repeated={"key": 3})
    taken = [pool.take(name) for name in names(3)]
    assert [result.status for result, _ in taken] == ["error", "passed", "passed"]
    assert [runner for _, runner in taken] == names(3)
    assert executor.submitted == names(3)


def test_the_end_keeps_what_has_ended() -> None:
    executor = Half("t0", "t2")
    pool = Pool(executor.submit, jobs(names(9)), ahead=3)
    pool.take("t0")
    pool.cancel()
    assert [name for name, _, _ in pool.finished()] == ["t2"]
    assert executor.submitted == names(4)
    assert executor.futures["t3"].cancelled()


def test_a_job_is_run_again_on_request() -> None:
    executor = Eager("t0")
    pool = Pool(executor.submit, jobs(names(2)), ahead=1)
    assert pool.take("t0")[0].status == "error"
    assert pool.again(planned("t0").job).status == "passed"
    assert executor.submitted == ["t0", "t1", "t0"]


class Refusing(Executor):
    def submit(self, job: Job) -> Future[Result]:
        future = super().submit(job)
        future.set_exception(BrokenExecutor("the cluster is gone"))
        return future


def test_a_lost_executor_is_told() -> None:
    pool = Pool(Refusing().submit, jobs(names(2)), ahead=1)
    with pytest.raises(BrokenExecutor, match="the cluster is gone"):
        pool.take("t0")
    assert list(pool.finished()) == []


class Running(Executor):
    """Jobs that have begun: they can't be taken back."""

    def submit(self, job: Job) -> Future[Result]:
        future = super().submit(job)
        future.set_running_or_notify_cancel()
        return future


def test_an_interrupted_wait_loses_nothing() -> None:
    executor = Running()
    pool = Pool(executor.submit, jobs(names(2)), ahead=1)
    threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        pool.take("t0")
    pool.cancel()
    executor.finish("t0")
    assert [name for name, _, _ in pool.finished()] == ["t0"]
