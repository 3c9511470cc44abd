"""Whatever is killed: files stay valid, what was bought is kept, the next run finishes the work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROWS, Crowd, Evaluation

MODEL = """
import asyncio
from pathlib import Path

class Slow:
    async def generate(self, request):
        with Path("asked.txt").open("a") as file:
            file.write(request.task.task_id + "\\n")
        await asyncio.sleep(0.05)
        return request.task.gold_command

def pytest_shelleval_model(name, settings):
    return Slow()
"""
TASKS = 60


def start(evaluation: Evaluation, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        evaluation.command(*args),
        cwd=evaluation.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until(what: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture
def many(evaluation: Evaluation) -> Evaluation:
    evaluation.pytester.makeconftest(MODEL)
    evaluation.rows(*[{**ROWS[n % 3], "task_id": f"t{n}"} for n in range(TASKS)])
    return evaluation


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_phase_1_goes_on_where_it_was_ended(many: Evaluation, number: signal.Signals) -> None:
    args = ("--shelleval-model=slow", "--shelleval-phase=inference")
    process = start(many, *args, "--shelleval-inference-concurrency=4")
    commands = many.output / "commands.jsonl"
    wait_until(lambda: count(commands) >= 10, process)
    process.send_signal(number)
    status = process.wait(30)
    assert status == (2 if number == signal.SIGINT else -number)
    kept = {line["task_id"] for line in many.lines("commands.jsonl")}
    assert 10 <= len(kept) < TASKS
    asked = many.folder / "asked.txt"
    asked.unlink()
    assert many.run(*args).ret == 0
    assert set(asked.read_text().split()) == {f"t{n}" for n in range(TASKS)} - kept
    assert len(many.lines("commands.jsonl")) == TASKS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_phase_2_leaves_valid_files_and_no_process(
    many: Evaluation, number: signal.Signals, workers: str
) -> None:
    many.rows(*[{**ROWS[0], "task_id": f"t{n}", "gold_command": "sleep 0.2"} for n in range(TASKS)])
    process = start(many, "--shelleval-model=oracle", "-n", workers, "--shelleval-fail-under=0")
    results = many.output / "results.jsonl"
    wait_until(lambda: count(results) >= 3, process)
    process.send_signal(number)
    status = process.wait(30)
    lines = many.lines("results.jsonl")
    assert 3 <= len(lines) < TASKS
    assert len({line["task_id"] for line in lines}) == len(lines)
    if number == signal.SIGINT:
        assert status == 2
        assert many.summary()["complete"] is False
    deadline = time.monotonic() + 20
    while (left := session_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    many.run("--shelleval-phase=execution", "-k", "t1 or t2")
    assert many.summary()["complete"] is True


def session_of(leader: int) -> list[str]:
    """Processes that *leader* started: of its session, and of sandboxes below this user's temp."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            arguments = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if (int(fields[3]) == leader and fields[0] != "Z") or b"sleep\x000.2\x00" in arguments:
            found.append(f"{entry.name} {arguments!r}")
    return found


def test_a_worker_that_dies_costs_its_task_and_no_other(evaluation: Evaluation) -> None:
    evaluation.pytester.makeconftest(
        """
        import os, pathlib, pytest

        @pytest.fixture
        def shelleval_sandbox(shelleval_sandbox, shelleval_task):
            before = pathlib.Path("before")
            if shelleval_task.task_id == "t7" and not before.exists():
                before.touch()
                os._exit(1)
            if shelleval_task.task_id == "t5":
                os._exit(1)
            return shelleval_sandbox
        """
    )
    evaluation.rows(*[{**ROWS[n % 3], "task_id": f"t{n}"} for n in range(12)])
    done = evaluation.run("--shelleval-model=oracle", "-n", "2")
    assert done.ret == 1
    assert done.parseoutcomes() == {"passed": 11, "failed": 1, "rerun": 2}
    statuses = evaluation.statuses()
    assert len(statuses) == 12
    assert statuses.pop("t5") == "error"
    assert set(statuses.values()) == {"passed"}
    (line,) = [line for line in evaluation.lines("results.jsonl") if line["task_id"] == "t5"]
    assert line["error_kind"] == "crashed"
    assert line["generated_command"] == ROWS[5 % 3]["gold_command"]
    assert evaluation.summary()["by_error_kind"] == {"crashed": 1}


@pytest.mark.every_mode
def test_a_sandbox_that_is_killed_is_replaced(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(
        """
        import pytest

        class Once:
            def __init__(self, inner):
                self.inner, self.killed = inner, 0
                self.info = inner.info

            def acquire(self):
                sandbox = self.inner.acquire()
                if self.killed < 2:
                    self.killed += 1
                    sandbox.close()
                return sandbox

            def close(self):
                self.inner.close()

        @pytest.fixture(scope="session")
        def shelleval_sandboxes(shelleval_sandboxes):
            return Once(shelleval_sandboxes)
        """
    )
    evaluation.run("--shelleval-model=oracle", *mode).assert_outcomes(passed=3)
    assert max(line["attempt"] for line in evaluation.lines("results.jsonl")) == 3


def test_interrupted_inside_a_task(evaluation: Evaluation) -> None:
    evaluation.rows({**ROWS[0], "gold_command": "touch started; sleep 30"}, *ROWS[1:])
    process = start(evaluation, "--shelleval-model=oracle")
    commands = evaluation.output / "commands.jsonl"
    wait_until(lambda: count(commands) == 3, process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 2
    statuses = evaluation.statuses()  # what had ended by then is kept
    assert "make-file" not in statuses
    assert set(statuses.values()) <= {"passed"}
    assert os.path.exists(commands)


def test_a_machine_that_is_too_busy(evaluation: Evaluation) -> None:
    """The command needs some processor time, and gets it once the others have gone."""
    work = "python3 -c 'import time\nwhile time.process_time() < 0.35: pass'"
    evaluation.rows({**ROWS[0], "gold_command": f"{work} && {ROWS[0]['gold_command']}"})
    options = ("--shelleval-sandbox=local", "--shelleval-command-timeout=5", "-n", "0")
    run = start(evaluation, "--shelleval-model=oracle", *options)
    log = evaluation.output / "debug.log"
    wait_until(log.exists, run)
    crowd = Crowd()
    try:
        wait_until(lambda: "too busy" in log.read_text(), run)
    finally:
        crowd.disperse()
    assert run.wait() == 0
    (result,) = evaluation.lines("results.jsonl")
    assert (result["status"], result["attempt"]) == ("passed", 2)
    assert result["starved"]["command"] < 0.5
    assert result["faults"][0].startswith("the command timed out, on a machine too busy")
