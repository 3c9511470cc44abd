"""Two runs side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.stats import mcnemar_exact, paired_difference
from pytest_shelleval.report.compare import Comparison, compare
from tests.report.records import Record, record, write_run

OUTCOMES = {  # task: before, now
    "p-p": ("passed", "passed"),
    "p-f": ("passed", "failed"),
    "f-p": ("failed", "passed"),
    "f-f": ("failed", "failed"),
    "p-e": ("passed", "error"),
    "e-p": ("error", "passed"),
}


def runs(tmp_path: Path, a: list[Record], b: list[Record]) -> Comparison:
    return compare(write_run(tmp_path / "a", a), write_run(tmp_path / "b", b))


def both(tmp_path: Path) -> Comparison:
    a = [record(task, before) for task, (before, _) in OUTCOMES.items()]
    b = [record(task, now) for task, (_, now) in OUTCOMES.items()]
    return runs(tmp_path, [*a, record("old")], [*b, record("fresh")])


def kinds(comparison: Comparison) -> dict[str, str]:
    (pair,) = comparison.models
    return {change.task_id: change.kind for change in pair.changes}


def test_each_task_has_its_kind(tmp_path: Path) -> None:
    assert kinds(both(tmp_path)) == {
        "p-p": "still_passing",
        "p-f": "broken",
        "f-p": "fixed",
        "f-f": "still_failing",
        "p-e": "no_verdict",
        "e-p": "no_verdict",
        "old": "gone",
        "fresh": "new",
    }


def test_statistics_are_of_the_tasks_with_a_verdict_in_both(tmp_path: Path) -> None:
    (pair,) = both(tmp_path).models
    assert pair.tasks == 4
    assert pair.difference == paired_difference(1, 1, 1, 1)
    assert pair.p_value == mcnemar_exact(1, 1)
    assert (pair.rate_a, pair.rate_b) == (0.5, 0.5)


def test_samples_that_disagree_are_flaky(tmp_path: Path) -> None:
    a = [record("t", outcome, sample=n) for n, outcome in enumerate(["passed", "failed"])]
    b = [record("t", sample=n) for n in range(2)]
    comparison = runs(
        tmp_path, [*a, record("u"), record("u", sample=1)], [*b, record("u", "failed")]
    )
    assert kinds(comparison) == {"t": "flaky", "u": "broken"}
    assert "t interval" in comparison.models[0].method
    assert any("1 of 2 before, 2 of 2 now" in line for line in comparison.lines())


def test_a_later_line_replaces_the_earlier(tmp_path: Path) -> None:
    comparison = runs(tmp_path, [record("t")], [record("t", "failed"), record("t")])
    assert kinds(comparison) == {"t": "still_passing"}


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        (
            "sandbox",
            {"kind": "docker", "image": "debian"},
            "different sandbox: docker debian and local",
        ),
        ("steps", "shared", "different steps: separate and shared"),
        ("prompt_hash", "ffff", "different prompt: 1 of 1"),
        ("success_condition", "true", "different dataset: 1 of 1 tasks differ"),
    ],
)
def test_what_is_not_comparable_is_said(
    tmp_path: Path, field: str, value: object, said: str
) -> None:
    other = {**record("t"), field: value}
    one, two = ([other], [record("t")]) if field == "sandbox" else ([record("t")], [other])
    comparison = runs(tmp_path, one, two)
    assert not comparison.comparable
    assert said in " ".join(comparison.differences)
    assert any("NOT COMPARABLE" in line for line in comparison.lines())


def test_another_dataset_hash_is_said(tmp_path: Path) -> None:
    for name, digest in (("a", "1" * 64), ("b", "2" * 64)):
        summary = {"successful_samples": 1, "total_samples": 1, "dataset_sha256": digest}
        write_run(tmp_path / name, [record("t")], summary)
    comparison = compare(tmp_path / "a", tmp_path / "b" / "results.jsonl")
    assert comparison.differences == [
        "different dataset (sha256 11111111 and 22222222): 1 task in both, 0 of which differ"
    ]


def test_a_task_that_says_something_else_counts_for_nothing(tmp_path: Path) -> None:
    comparison = runs(tmp_path, [record("t")], [record("t", "failed", task="Other words")])
    assert kinds(comparison) == {"t": "changed"}
    assert comparison.models[0].tasks == 0


def test_single_models_of_other_names_are_paired(tmp_path: Path) -> None:
    comparison = runs(tmp_path, [record("t", model="x")], [record("t", "failed", model="y")])
    assert (comparison.models[0].model_a, comparison.models[0].model_b) == ("x", "y")
    assert kinds(comparison) == {"t": "broken"}


def test_models_that_can_not_be_paired(tmp_path: Path) -> None:
    a = [record("t", model="x"), record("t", model="y")]
    with pytest.raises(UserError, match="no model is in both"):
        runs(tmp_path, a, [record("t", model="z")])


def test_lines_fit_80_columns_and_hide_nothing(tmp_path: Path) -> None:
    names = [f"a-rather-long-name/of-a-task/{n}/\x1b[31m\u202e" for n in range(40)]
    comparison = runs(tmp_path, [record(n) for n in names], [record(n, "failed") for n in names])
    lines = list(comparison.lines())
    assert max(map(len, lines)) <= 80
    assert not any("\x1b" in line or "\u202e" in line for line in lines)
    assert any("... and 20 more" in line for line in lines)


def test_json_can_be_written(tmp_path: Path) -> None:
    found = json.loads(json.dumps(both(tmp_path).to_json()))
    assert found["models"][0]["counts"]["broken"] == 1
    assert found["comparable"] is True


@pytest.mark.parametrize("text", ["", '{"task": "no id"}\n', "not json\n{}\n"])
def test_bad_files_are_named(tmp_path: Path, text: str) -> None:
    good = write_run(tmp_path / "a", [record("t")])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "results.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"results\.jsonl"):
        compare(good, tmp_path / "b")
    with pytest.raises(UserError, match="no such file"):
        compare(good, tmp_path / "c")
