"""What GitHub Actions shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_shelleval.report.compare import Comparison, compare
from pytest_shelleval.report.gates import Gate
from pytest_shelleval.report.github import (
    command,
    escape,
    gate_annotations,
    job_summary,
    regression_annotations,
)
from tests.report.records import record, write_run


def broken(tmp_path: Path, count: int, model: str = "small") -> Comparison:
    names = [f"t{n}" for n in range(count)]
    a = write_run(tmp_path / "a", [record(n, model=model) for n in names])
    b = write_run(tmp_path / "b", [record(n, "failed", model=model) for n in names])
    return compare(a, b)


def test_a_regression_stands_on_its_line(tmp_path: Path) -> None:
    (line,) = regression_annotations(broken(tmp_path, 1), {"t0": "data/tasks.jsonl:12"})
    assert line == (
        "::error file=data/tasks.jsonl,line=12,title=shelleval regression::t0 passed in the baseline "
        "and fails now: condition not met (small)"
    )


def test_no_more_than_github_shows(tmp_path: Path) -> None:
    lines = list(regression_annotations(broken(tmp_path, 25), {}))
    assert len(lines) == 10
    assert lines[-1].endswith("%0A... and 15 more regressions")


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("a,b:c.jsonl:3", "file=a%2Cb%3Ac.jsonl,line=3"),
        ("d.parquet row 4", "file=d.parquet"),
        ("x.csv", "file=x.csv"),
    ],
)
def test_places_are_escaped(source: str, place: str) -> None:
    assert command("error", "text", source) == f"::error {place}::text"


def test_text_can_not_forge_a_command() -> None:
    line = command("error", "50%\n::set-output name=a::b\r\x1b[0m")
    assert line == "::error::50%25%0A::set-output name=a::b\\x0d\\x1b[0m"
    assert "\n" not in line


def test_gates_that_are_not_met() -> None:
    lines = list(gate_annotations([Gate(True, "good"), Gate(False, "gate FAILED: bad")]))
    assert lines == ["::error title=shelleval gate::gate FAILED: bad"]


def test_the_job_summary(tmp_path: Path) -> None:
    comparison = broken(tmp_path, 60, model="a|b<i>")
    text = job_summary(
        comparison.b.counts,
        {"complete": False, "unrun_samples": 2, "total_samples": 62},
        gates=[Gate(False, "gate FAILED: no")],
        comparison=comparison,
    )
    assert "**Partial run:** 2 of 62" in text
    assert "| a&#124;b&lt;i&gt; | **0.0 %** |" in text
    assert "❌ gate FAILED: no" in text
    assert "60 broken" in text
    assert "... and 10 more" in text
    assert "<i>" not in text


def test_markdown_says_just_the_text() -> None:
    assert escape("<b>*x*\n| `c` @me #1 https://a") == (
        "&lt;b&gt;&#42;x&#42; &#124; &#96;c&#96; &#64;me &#35;1 https:&#47;&#47;a"
    )
