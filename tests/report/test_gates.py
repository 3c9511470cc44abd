"""Gates: met or not, and the line that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_shelleval.core.summary import ResultCounts
from pytest_shelleval.report import gates
from pytest_shelleval.report.compare import Comparison, compare
from tests.report.records import record, write_run


def tally_of(passed: int, failed: int = 0, errors: int = 0, model: str = "small") -> ResultCounts:
    counts = ResultCounts()
    outcomes = ["passed"] * passed + ["failed"] * failed + ["error"] * errors
    for number, outcome in enumerate(outcomes):
        counts.add(record(f"t{number}", outcome, model=model))
    return counts


def against(tmp_path: Path, before: str, now: str) -> tuple[Comparison, ResultCounts, int]:
    """Runs written as a letter per task: passed, failed, error."""
    words = {"p": "passed", "f": "failed", "e": "error"}
    a, b = ([record(f"t{n}", words[x]) for n, x in enumerate(run)] for run in (before, now))
    comparison = compare(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b))
    return comparison, comparison.b.counts, len(now)


def test_the_rate_decides() -> None:
    met = gates.fail_under(tally_of(8, 2), 10, gates.parse_limit("0.8"))
    assert met == (True, "gate passed: pass rate 80.0 % (8 of 10), --shelleval-fail-under=0.8")
    missed = gates.fail_under(tally_of(7, 2, 1), 10, gates.parse_limit("0.8"))
    assert missed == (False, "gate FAILED: pass rate 70.0 % (7 of 10), --shelleval-fail-under=0.8")


def test_the_lower_end_decides() -> None:
    gate = gates.fail_under(tally_of(90, 10), 100, gates.parse_limit("lower:0.85"))
    assert not gate.met
    assert "lower end of the 95 % interval 82.6 %" in gate.line
    assert gates.fail_under(tally_of(90, 10), 100, gates.parse_limit("lower:0.82")).met


def test_every_model_has_to_reach_it() -> None:
    counts = tally_of(9, 1)
    for key, outcome in tally_of(1, 9, model="other").outcomes.items():
        counts.outcomes[key] = outcome
    gate = gates.fail_under(counts, 20, gates.parse_limit("0.5"))
    assert not gate.met
    assert "small: pass rate 90.0 %" in gate.line
    assert "other: pass rate 10.0 %" in gate.line


@pytest.mark.parametrize("text", ["", "x", "1.1", "-0.1", "upper:0.5", ":0.5", "lower:", "nan"])
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="fraction"):
        gates.parse_limit(text)


def test_errors_are_counted() -> None:
    gate = gates.max_errors(tally_of(5, 0, 3), 8, 2)
    assert gate == (False, "gate FAILED: 3 errors (sandbox 3) of 8, --shelleval-max-errors=2")
    assert gates.max_errors(tally_of(5, 0, 2), 7, 2).met
    assert gates.max_errors(tally_of(5), 5, 0).met


def test_partial_runs_never_pass(tmp_path: Path) -> None:
    comparison, counts, total = against(tmp_path, "ppp", "ppp")
    for gate in (
        gates.fail_under(counts, total + 1, gates.parse_limit("0")),
        gates.max_errors(counts, total + 1, 99),
        gates.fail_on(comparison, counts, total + 1, "regression"),
        gates.fail_on(comparison, counts, total + 1, "significant-regression"),
        gates.fail_under(ResultCounts(), 0, gates.parse_limit("0")),
    ):
        assert not gate.met
        assert "partial" in gate.line or "nothing was run" in gate.line


def test_a_regression_is_named(tmp_path: Path) -> None:
    gate = gates.fail_on(*against(tmp_path, "ppppf", "pfffp"), "regression")
    assert gate == (
        False,
        "gate FAILED: 3 regressions: t1, t2, t3, --shelleval-fail-on=regression",
    )
    assert gates.fail_on(*against(tmp_path / "2", "pff", "ppf"), "regression").met


def test_luck_is_no_significant_regression(tmp_path: Path) -> None:
    assert gates.fail_on(*against(tmp_path, "ppppf", "pfffp"), "significant-regression").met
    gate = gates.fail_on(*against(tmp_path / "2", "p" * 9, "f" * 9), "significant-regression")
    assert not gate.met
    assert "-100.0 points" in gate.line
    assert gates.fail_on(*against(tmp_path / "3", "f" * 9, "p" * 9), "significant-regression").met


def test_errors_prove_nothing(tmp_path: Path) -> None:
    comparison = against(tmp_path, "ppp", "ppe")
    gate = gates.fail_on(*comparison, "regression")
    assert not gate.met
    assert "1 task that passed ended in errors: t2" in gate.line
    assert gates.fail_on(*comparison, "regression", errors_allowed=True).met
    nothing = gates.fail_on(*against(tmp_path / "2", "pp", "ee"), "regression", errors_allowed=True)
    assert not nothing.met


def test_what_is_not_like_for_like_is_said(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", [record("t", steps="shared")])
    comparison = compare(a, write_run(tmp_path / "b", [record("t")]))
    gate = gates.fail_on(comparison, comparison.b.counts, 1, "regression")
    assert gate.met
    assert "not comparable (different steps)" in gate.line


def test_a_partial_baseline_is_said(tmp_path: Path) -> None:
    partial = {"complete": False, "successful_samples": 1, "total_samples": 4, "unrun_samples": 3}
    a = write_run(tmp_path / "a", [record("t")], partial)
    comparison = compare(a, write_run(tmp_path / "b", [record("t")]))
    assert comparison.differences == ["the earlier run is partial: 3 of its commands were not run"]
    gate = gates.fail_on(comparison, comparison.b.counts, 1, "regression")
    assert gate.met
    assert "not comparable (the earlier run is partial)" in gate.line
