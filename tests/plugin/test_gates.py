"""Gates, baseline and what GitHub Actions gets, through pytest."""

from __future__ import annotations

import json

import pytest

from tests.support import ROWS, Evaluation

BAD = {**ROWS[0], "task_id": "bad", "gold_command": "false"}
ORACLE = "--shelleval-model=oracle"


@pytest.fixture
def with_baseline(evaluation: Evaluation) -> Evaluation:
    """An earlier run in which all three tasks passed."""
    evaluation.run(ORACLE, "--shelleval-output-dir=before").assert_outcomes(passed=3)
    return evaluation


@pytest.mark.every_mode
def test_a_regression_fails_the_gate_and_is_named(
    with_baseline: Evaluation, mode: tuple[str, ...]
) -> None:
    args = (ORACLE, "--shelleval-baseline=before", "--shelleval-fail-on=regression", *mode)
    assert with_baseline.run(*args).ret == 0
    with_baseline.rows(*ROWS[:2], {**ROWS[2], "gold_command": "true"})
    done = with_baseline.run(*args)
    assert done.ret == 1
    done.stdout.fnmatch_lines(["gate FAILED: *count*"])


def test_what_failed_before_does_not_fail_the_gate(evaluation: Evaluation) -> None:
    evaluation.rows(*ROWS, BAD)
    evaluation.run(ORACLE, "--shelleval-output-dir=before").assert_outcomes(passed=3, failed=1)
    done = evaluation.run(
        ORACLE, "--shelleval-baseline=before/results.jsonl", "--shelleval-fail-on=regression"
    )
    done.assert_outcomes(passed=3, failed=1)
    assert done.ret == 0


def test_a_significant_regression_needs_more_than_one_task(with_baseline: Evaluation) -> None:
    with_baseline.rows(*ROWS[:2], {**ROWS[2], "gold_command": "true"})
    gate = "--shelleval-fail-on=significant-regression"
    assert with_baseline.run(ORACLE, "--shelleval-baseline=before", gate).ret == 0


@pytest.mark.parametrize(("most", "status"), [(0, 1), (1, 0)])
def test_errors_have_a_gate_of_their_own(
    evaluation: Evaluation, mode: tuple[str, ...], most: int, status: int
) -> None:
    evaluation.rows(*ROWS, {**ROWS[0], "task_id": "err", "setup_commands": ["false"]})
    done = evaluation.run(ORACLE, f"--shelleval-max-errors={most}", *mode)
    assert done.ret == status
    done.stdout.fnmatch_lines(["gate *: 1 error (setup 1) of 4*"])


def test_the_lower_end_of_the_interval(evaluation: Evaluation) -> None:
    assert evaluation.run(ORACLE, "--shelleval-fail-under=lower:0.43").ret == 0
    done = evaluation.run(ORACLE, "--shelleval-fail-under=lower:0.44")
    assert done.ret == 1
    assert "lower end of the 95 % interval 43.9 %" in done.stdout.str()


def test_all_gates_must_be_met(with_baseline: Evaluation) -> None:
    with_baseline.rows(*ROWS, BAD)
    done = with_baseline.run(
        ORACLE,
        "--shelleval-fail-under=0.9",
        "--shelleval-max-errors=0",
        "--shelleval-baseline=before",
        "--shelleval-fail-on=regression",
    )
    assert done.ret == 1
    lines = [line.partition(":")[0] for line in done.outlines if line.startswith("gate ")]
    assert sorted(lines) == ["gate FAILED", "gate passed", "gate passed"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--shelleval-baseline=nowhere"], "nowhere: no such file"),
        (["--shelleval-fail-on=regression"], "name it with --shelleval-baseline"),
    ],
)
def test_a_missing_baseline_is_said_before_anything_runs(
    evaluation: Evaluation, args: list[str], message: str
) -> None:
    done = evaluation.run(ORACLE, *args)
    assert done.ret == 4
    assert message in done.stderr.str()
    assert not evaluation.output.exists()


def test_a_run_is_not_its_own_baseline(evaluation: Evaluation) -> None:
    evaluation.run(ORACLE)
    done = evaluation.run(ORACLE, "--shelleval-baseline=evaluation_results")
    assert done.ret == 4
    assert "is what this run writes" in done.stderr.str()
    assert len(evaluation.lines("results.jsonl")) == 3


@pytest.mark.parametrize("gate", [(), ("--shelleval-fail-under=0",)])
def test_a_run_whose_report_cannot_be_written_does_not_pass(
    evaluation: Evaluation, mode: tuple[str, ...], gate: tuple[str, ...]
) -> None:
    (evaluation.output / "report.html").mkdir(parents=True)
    done = evaluation.run(ORACLE, *gate, *mode)
    done.assert_outcomes(passed=3)
    assert done.ret == 1
    done.stdout.fnmatch_lines(["can't write *report.html: *"])


def test_github_actions_gets_annotations_and_a_job_summary(
    with_baseline: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = with_baseline.folder / "step.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    with_baseline.rows(*ROWS[:2], {**ROWS[2], "gold_command": "true"})
    done = with_baseline.run(
        ORACLE, "--shelleval-baseline=before", "--shelleval-fail-on=regression"
    )
    done.stdout.fnmatch_lines(
        ["::error title=shelleval gate::*", "::error file=tasks.jsonl,line=3,*::count passed in *"]
    )
    assert "| oracle | **66.7 %** |" in step.read_text()


def test_the_report_and_the_json_report_have_the_figures(evaluation: Evaluation) -> None:
    evaluation.run(
        ORACLE, "-p", "pytest_jsonreport.plugin", "-p", "pytest_metadata.plugin", "--json-report"
    )
    page = (evaluation.output / "report.html").read_text()
    assert "make-file" in page
    report = json.loads((evaluation.folder / ".report.json").read_text())
    assert report["shelleval"]["successful_samples"] == 3
