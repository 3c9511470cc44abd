"""--shelleval-resume: what is known is replayed, the rest is run, nothing is lost."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.plugin.test_faults import count, start, wait_until
from tests.support import MODES, ROWS, Evaluation

# fixtures are only there for what is executed
COUNTING = """
import pytest
from pathlib import Path

@pytest.fixture
def shelleval_task(shelleval_task):
    with Path("executed.txt").open("a") as file:
        file.write(shelleval_task.task_id + "\\n")
    return shelleval_task
"""
BAD = {**ROWS[0], "task_id": "bad", "gold_command": "false"}
ERROR = {**ROWS[0], "task_id": "error", "setup_commands": ["false"]}
ORACLE = "--shelleval-model=oracle"
RESUME = "--shelleval-resume"


@pytest.fixture
def counted(evaluation: Evaluation) -> Evaluation:
    evaluation.pytester.makeconftest(COUNTING)
    evaluation.rows(*ROWS, BAD, ERROR)
    return evaluation


def executed(evaluation: Evaluation) -> list[str]:
    path = evaluation.folder / "executed.txt"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def lines_of(path: Path) -> dict[str, Any]:
    return {line["task_id"]: line for line in map(json.loads, path.read_text().splitlines())}


@pytest.mark.every_mode
@pytest.mark.every_mode
def test_verdicts_are_replayed_and_errors_tried_again(
    counted: Evaluation, mode: tuple[str, ...]
) -> None:
    counted.run(ORACLE, *mode).assert_outcomes(passed=3, failed=1, errors=1)
    assert len(executed(counted)) == 5
    before = counted.lines("results.jsonl")
    done = counted.run(ORACLE, RESUME, "-v", "--junitxml=report.xml", *mode)
    done.assert_outcomes(passed=3, failed=1, errors=1)
    assert executed(counted) == ["error"]
    done.stdout.fnmatch_lines_random(
        [
            "*PASSED (replayed)*",
            "FAILED (replayed) tasks.jsonl::bad - the command failed with exit code 1",
            "condition  $ grep -qx 'Hello World' hello.txt",  # its explanation, as before
            "selected 5, run 5, errors 1, scored 4",
            "4 replayed from an earlier run",
        ]
    )
    assert counted.statuses() == {line["task_id"]: line["status"] for line in before}
    after = lines_of(counted.output / "results.jsonl")
    assert all(after[line["task_id"]] == line for line in before if line["status"] != "error")
    summary = counted.summary()
    assert (summary["replayed"], summary["complete"], summary["total_samples"]) == (4, True, 5)
    cases = ElementTree.parse(counted.folder / "report.xml").getroot().iter("testcase")
    replayed = [
        case.get("name")
        for case in cases
        if any(
            (each.get("name"), each.get("value")) == ("origin", "replayed")
            for each in case.iter("property")
        )
    ]
    assert sorted(map(str, replayed)) == ["bad", "copy", "count", "make-file"]


def test_what_would_be_run_otherwise_is_run(counted: Evaluation) -> None:
    counted.run(ORACLE)
    executed(counted)
    counted.rows(
        {**ROWS[0], "gold_command": "echo 'Hello World' | tee hello.txt"},
        {**ROWS[1], "setup_commands": ["echo b > a.txt"]},
        {**ROWS[2], "tags": ["other"], "hint": "a column"},
        {**BAD, "task": "Create the file, please"},
    )
    done = counted.run(ORACLE, RESUME)
    done.assert_outcomes(passed=3, failed=1)
    assert executed(counted) == ["copy", "make-file"]
    assert counted.summary()["replayed"] == 2
    assert set(counted.statuses()) == {"make-file", "copy", "count", "bad"}
    counted.run(ORACLE, RESUME, "--shelleval-steps=shared")
    assert len(executed(counted)) == 4
    counted.run(ORACLE, RESUME, "--shelleval-steps=shared", "--shelleval-pool-size=0")
    assert executed(counted) == []
    counted.run(ORACLE, "--shelleval-steps=shared")  # without the option all is run anew
    assert len(executed(counted)) == 4


def test_last_failed_runs_what_failed_and_the_results_stay_complete(counted: Evaluation) -> None:
    counted.run(ORACLE)
    executed(counted)
    done = counted.run(ORACLE, RESUME, "--lf", *MODES["n2"])
    done.assert_outcomes(failed=1, errors=1)
    assert executed(counted) == ["bad", "error"]
    done.stdout.fnmatch_lines(["3 of an earlier run, not selected now"])
    passed = {row["task_id"]: "passed" for row in ROWS}
    assert counted.statuses() == {**passed, "bad": "failed", "error": "error"}
    summary = counted.summary()
    assert (summary["kept"], summary["complete"], summary["successful_samples"]) == (3, True, 3)


def test_a_narrower_selection_destroys_no_earlier_result(counted: Evaluation) -> None:
    counted.run(ORACLE)
    earlier = counted.output / "results.earlier.jsonl"
    assert not earlier.exists()
    done = counted.run(ORACLE, "-k", "copy or bad")
    done.stdout.fnmatch_lines(["3 earlier results of other commands: results.earlier.jsonl *"])
    assert set(counted.statuses()) == {"copy", "bad"}
    assert counted.summary()["total_samples"] == 2
    assert set(lines_of(earlier)) == {"make-file", "count", "error"}
    counted.run(ORACLE, "-k", "copy")
    assert set(lines_of(earlier)) == {"make-file", "count", "error", "bad"}
    executed(counted)
    counted.run(ORACLE, RESUME).assert_outcomes(passed=3, failed=1, errors=1)
    assert executed(counted) == ["error"]
    assert len(counted.statuses()) == 5
    assert not earlier.exists()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_was_killed_goes_on_where_it_ended(counted: Evaluation, workers: str) -> None:
    counted.rows(*[{**ROWS[0], "task_id": f"t{n}", "gold_command": "sleep 0.1"} for n in range(30)])
    results = counted.output / "results.jsonl"
    known: set[str] = set()
    for limit in (5, 15):
        process = start(counted, ORACLE, RESUME, "-n", workers)
        wait_until(lambda limit=limit: count(results) >= limit, process)  # type: ignore[misc]
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        kept = set(counted.statuses())
        assert known <= kept
        assert limit <= len(kept) < 30
        known = kept
    with results.open("a") as file:
        file.write('{"task_id": "t29", "task": "Cre')  # killed while it wrote
    executed(counted)
    done = counted.run(ORACLE, RESUME, "-n", workers)
    done.assert_outcomes(failed=30)
    assert set(executed(counted)) == {f"t{n}" for n in range(30)} - known
    assert len(counted.statuses()) == 30
    assert counted.summary()["replayed"] == len(known)


def test_results_that_cannot_be_read_are_named_before_anything_runs(counted: Evaluation) -> None:
    counted.run(ORACLE, "-k", "copy")
    results = counted.output / "results.jsonl"
    with results.open("a") as file:
        file.write("not JSON\n")
    before = results.read_bytes()
    executed(counted)
    done = counted.run(ORACLE, RESUME)
    assert done.ret == 4
    assert f"{results}:2: not JSON" in done.stderr.str()
    assert executed(counted) == []
    assert results.read_bytes() == before


def test_a_replayed_failure_beside_reruns_is_recorded_once(counted: Evaluation) -> None:
    counted.rows(BAD)
    counted.run(ORACLE)
    executed(counted)
    counted.run(ORACLE, RESUME, "-p", "pytest_rerunfailures", "--reruns=2")
    assert executed(counted) == []
    assert counted.statuses() == {"bad": "failed"}


def test_the_last_replayed_item_of_a_folder_leaves_other_tests_in_peace(
    counted: Evaluation,
) -> None:
    """Collectors that only replayed items are in are neither set up too little nor too much."""
    counted.rows(*ROWS, name="a/tasks.jsonl")
    for name in ("a", "b"):
        folder = counted.folder / name
        folder.mkdir(exist_ok=True)
        (folder / f"test_{name}.py").write_text("def test_it(): pass")
    args = (ORACLE, "a/tasks.jsonl", "a/test_a.py", "b/test_b.py")
    counted.run(*args, dataset="a/tasks.jsonl").assert_outcomes(passed=5)
    (counted.output / "results.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in counted.lines("results.jsonl")[1:])
    )
    done = counted.run(*args, RESUME, dataset="a/tasks.jsonl")
    done.assert_outcomes(passed=5)
    assert counted.summary()["replayed"] == 2


def test_a_worker_that_dies_over_a_replayed_item_costs_no_result(counted: Evaluation) -> None:
    conftest = counted.folder / "conftest.py"
    dies = """
import os

def pytest_runtest_protocol(item):
    if item.name == "copy" and "PYTEST_XDIST_WORKER" in os.environ:
        os._exit(1)
"""
    counted.run(ORACLE, *MODES["n0"])
    before = lines_of(counted.output / "results.jsonl")
    conftest.write_text(conftest.read_text() + dies)
    done = counted.run(ORACLE, RESUME, *MODES["n2"])
    assert done.ret == 1
    assert counted.statuses()["copy"] == "passed"
    assert lines_of(counted.output / "results.jsonl")["copy"] == before["copy"]
    summary = counted.summary()
    assert (summary["successful_samples"], summary["by_error_kind"]) == (3, {"setup": 1})
