"""--shelleval-reuse: the same command is executed once, whoever wrote it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.plugin.test_resume import COUNTING, RESUME, executed
from tests.support import MODES, ROWS, Evaluation

MODEL = """
class Model:
    def __init__(self, name):
        self.name = name

    async def generate(self, request):
        right = request.task.gold_command
        return [right, "false", f"{right} # {self.name}"][request.sample % 3]

def pytest_shelleval_model(name, settings):
    return Model(name)
"""
ERROR = {**ROWS[0], "task_id": "error", "setup_commands": ["false"]}
ARGS = ("--shelleval-model=a", "--shelleval-model=b", "--shelleval-samples=6", "--shelleval-reuse")


@pytest.fixture
def counted(evaluation: Evaluation) -> Evaluation:
    evaluation.pytester.makeconftest(COUNTING + MODEL)
    return evaluation


@pytest.mark.parametrize("alone", ["n0", "no-xdist"])
def test_there_are_as_many_executions_as_different_commands(
    counted: Evaluation, alone: str
) -> None:
    # the second row is the first under another name
    counted.rows(ROWS[0], {**ROWS[0], "task_id": "again"}, ROWS[1])
    done = counted.run(*ARGS, "-v", *MODES[alone])
    done.assert_outcomes(passed=24, failed=12)
    # by each task: the right command, the wrong one, and what each of two models wrote
    assert len(executed(counted)) == 2 * 4
    done.stdout.fnmatch_lines_random(
        ["*PASSED (reused)*", "*FAILED (reused)*", "28 reused from another item with the same *"]
    )
    lines = counted.lines("results.jsonl")
    own = {
        f"tasks.jsonl::{line['task_id']}[{line['model']}-{line['sample']}]": line
        for line in lines
        if line["reused_from"] is None
    }
    assert (len(lines), len(own)) == (36, 8)
    for line in lines:
        source = own[line["reused_from"]] if line["reused_from"] else line
        for name in ("generated_command", "status", "command_exit_code", "execution_key"):
            assert line[name] == source[name]
        assert bool(line["durations"]) == (line is source)
    summary = counted.summary()
    assert (summary["reused"], summary["complete"], summary["success_rate"]) == (28, True, 2 / 3)
    assert set(summary["by_model"]) == {"a", "b"}


def test_each_process_executes_a_command_once_at_most(counted: Evaluation) -> None:
    counted.rows(ROWS[0], ROWS[1])
    counted.run(*ARGS, *MODES["n2"]).assert_outcomes(passed=16, failed=8)
    lines = counted.lines("results.jsonl")
    own = Counter(
        (line["worker"], line["execution_key"]) for line in lines if line["reused_from"] is None
    )
    assert len(executed(counted)) == sum(own.values())
    assert set(own.values()) == {1}
    assert counted.summary()["reused"] == len(lines) - len(own) > 0


def test_errors_are_not_reused_and_own_code_sees_every_task(counted: Evaluation) -> None:
    conftest = counted.folder / "conftest.py"
    scoring = "\ndef pytest_shelleval_score(task, result, sandbox):\n    return task.task_id == 'make-file'\n"
    conftest.write_text(conftest.read_text() + scoring)
    counted.rows(ROWS[0], {**ROWS[0], "task_id": "again"}, ERROR)
    counted.run(*ARGS, "-k", "a-0 or b-3").assert_outcomes(passed=2, failed=2, errors=2)
    assert Counter(executed(counted)) == {"make-file": 1, "again": 1, "error": 2}


@pytest.mark.parametrize("args", [ARGS, (*ARGS, RESUME)], ids=["reuse", "resume"])
@pytest.mark.parametrize(
    "own",
    [
        '@pytest.fixture(name="shelleval_sandbox")\ndef own_sandbox(shelleval_sandbox):\n',
        "@pytest.fixture\ndef shelleval_sandbox(shelleval_sandbox):\n",
    ],
    ids=["renamed", "plain"],
)
def test_an_own_fixture_sees_every_task_whatever_its_function_is_called(
    counted: Evaluation, mode: tuple[str, ...], own: str, args: tuple[str, ...]
) -> None:
    conftest = counted.folder / "conftest.py"
    conftest.write_text(f"{conftest.read_text()}\n{own}    return shelleval_sandbox\n")
    counted.rows(ROWS[0], {**ROWS[0], "task_id": "again"})
    counted.run(*args, "-k", "a-0 or b-3", *mode).assert_outcomes(passed=4)
    assert Counter(executed(counted)) == {"make-file": 1, "again": 1}


def test_with_resume_what_is_known_is_reused_too(
    counted: Evaluation, mode: tuple[str, ...]
) -> None:
    counted.rows(ROWS[0])
    counted.run(*ARGS, "-k", "a-0", *mode).assert_outcomes(passed=1)
    assert len(executed(counted)) == 1
    done = counted.run(*ARGS, "--shelleval-resume", *mode)
    done.assert_outcomes(passed=8, failed=4)
    processes = 2 if mode == MODES["n2"] else 1
    new = len(executed(counted))
    assert 3 <= new <= 3 * processes
    summary = counted.summary()
    assert (summary["replayed"], summary["reused"]) == (1, 11 - new)
    sources = Counter(line["reused_from"] for line in counted.lines("results.jsonl"))
    assert sources["tasks.jsonl::make-file[a-0]"] == 3


def test_a_failure_that_is_run_again_is_executed_again(counted: Evaluation) -> None:
    conftest = Path(counted.folder / "conftest.py")
    conftest.write_text(conftest.read_text().replace("[right,", '["test -e x",'))
    counted.rows(ROWS[0])
    counted.run(*ARGS, "--shelleval-phase=inference")  # else no other item has the same command
    counted.run(*ARGS, "-k", "a-0 or a-3", "-p", "pytest_rerunfailures", "--reruns=2")
    assert len(executed(counted)) == 3
    found = {line["sample"]: line["reused_from"] for line in counted.lines("results.jsonl")}
    assert found == {0: None, 3: "tasks.jsonl::make-file[a-0]"}
