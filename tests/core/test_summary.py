"""summary.json is counted from results.jsonl alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.stats import wilson_interval
from pytest_shelleval.core.summary import ResultCounts, summarize
from pytest_shelleval.report.run import load_run


def line(task_id: str, status: str, **fields: Any) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "task": "t",
        "setup_commands": [],
        "success_condition": "c",
        "generated_command": "x",
        "timestamp": "",
        "overall_success": status == "passed",
        "status": status,
        **fields,
    }


def summary(*lines: dict[str, Any], total: int | None = None) -> dict[str, Any]:
    counts = ResultCounts()
    for each in lines:
        counts.add(each)
    return summarize(counts, total=total)


def test_counts_and_denominators() -> None:
    found = summary(
        line("a", "passed", model="m"),
        line("b", "failed", model="m"),
        line("c", "error", model="m", error_kind="setup"),
        total=5,
    )
    assert found["total_samples"] == 5
    assert found["successful_samples"] == 1
    assert found["failed_samples"] == 4
    assert found["errored_samples"] == 1
    assert found["unrun_samples"] == 2
    assert found["scored_samples"] == 2
    assert found["success_rate"] == 0.2
    assert found["scored_rate"] == 0.5
    assert found["complete"] is False
    assert found["interval_95"] == list(wilson_interval(1, 5))
    assert found["by_error_kind"] == {"setup": 1}
    assert found["model_name"] == "m"


def test_a_later_line_for_the_same_command_replaces_the_earlier() -> None:
    usage = {"input_tokens": 7, "output_tokens": 2}
    found = summary(line("a", "failed", usage=usage), line("a", "passed", usage=usage))
    assert (found["total_samples"], found["successful_samples"]) == (1, 1)
    assert found["usage"] == usage


def test_pass_at_k_is_per_task_and_its_mean() -> None:
    lines = [line("a", "passed", sample=n) for n in range(2)]
    lines += [line("b", "passed" if n else "failed", sample=n) for n in range(2)]
    found = summary(*lines)
    assert found["pass_at_k"] == {"1": 0.75, "2": 1.0}
    assert found["success_rate"] == 0.75


def test_groups_by_tag_difficulty_and_model() -> None:
    found = summary(
        line("a", "passed", tags=["git", "find"], difficulty_level=1, model="m"),
        line("b", "failed", tags=["git"], difficulty_level=2, model="m"),
        line("a", "failed", tags=["git", "find"], difficulty_level=1, model="n"),
    )
    assert found["by_tag"]["git"]["total"] == 3
    assert found["by_tag"]["find"]["passed"] == 1
    assert set(found["by_difficulty"]) == {"1", "2"}
    assert found["by_model"]["m"]["success_rate"] == 0.5
    assert found["by_model"]["n"]["success_rate"] == 0.0


def test_it_is_rebuilt_from_a_file_also_one_of_the_script_before(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    old = line("old", "passed")
    del old["status"]
    lines = [line("a", "error", error_kind="sandbox", error="x"), line("b", "passed"), old]
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    found = summarize(load_run(path).counts)
    assert (found["total_samples"], found["successful_samples"]) == (3, 2)
    assert found["complete"] is True


def test_nothing_at_all_is_no_division_by_zero() -> None:
    found = summary(total=0)
    assert found["success_rate"] == pytest.approx(0)
    assert found["pass_at_k"] == {}
