"""The section on the terminal."""

from __future__ import annotations

from pathlib import Path

from pytest_shelleval.core.reasons import reason_of
from pytest_shelleval.core.summary import ResultCounts, summarize
from pytest_shelleval.report.compare import compare
from pytest_shelleval.report.gates import Gate
from pytest_shelleval.report.run import load_run
from pytest_shelleval.report.text import header, section
from pytest_shelleval.report.words import percent, seconds, visible
from tests.report.records import Record, failed, record, write_run


def tally_of(records: list[Record]) -> ResultCounts:
    counts = ResultCounts()
    for each in records:
        reason = reason_of(each)
        counts.add(each, reason.text if reason else "")
    return counts


RECORDS = [
    record("a", tags=["files", "text"], difficulty_level="hard"),
    failed("b", "bash: line 1: jq: command not found\n", 127, tags=["text"]),
    failed("c", "bash: line 1: jq: command not found\n", 127, tags=["text"]),
    record("d", "failed"),
    record("e", "error", durations={"sandbox": 75.0}),
]


def test_the_section_says_it_all() -> None:
    counts = tally_of(RECORDS)
    gate = Gate(True, "gate passed: for a test")
    text = "\n".join(section(counts, summarize(counts, total=7), gates=[gate]))
    for part in (
        "PARTIAL RUN: 2 of 7 selected commands have no result",
        "selected 7, run 5, errors 1, scored 4",
        "small: 20.0 % passed, 1 of 5 (95 % interval 3.6 to 62.4 %)",
        "of the 4 with a verdict 25.0 %; 1 error not the model's doing",
        "errors by kind: sandbox 1",
        "2  command not found: jq (2)",
        "tokens: input 500, output 100",
        "slowest: e 1 min 15 s",
        "gate passed: for a test",
    ):
        assert part in text
    assert text.index("easy ") < text.index("hard ")


def test_pass_at_k_with_clustered_intervals() -> None:
    counts = tally_of([record(f"t{n}", sample=s) for n in range(4) for s in range(2)])
    text = "\n".join(section(counts, summarize(counts)))
    assert "pass@1   100.0 % (95 % interval 51.0 to 100.0 %)" in text
    assert "pass@2   100.0 %" in text


def test_80_columns_and_nothing_that_acts(tmp_path: Path) -> None:
    hostile = "\x1b]0;x\x07\u202e" * 30
    records = [
        failed(f"t{n}-" + "long" * 30, hostile, 3, model=m, tags=[hostile, f"tag{n}" * 9])
        for n in range(30)
        for m in ("one-model-with-a-long-name-indeed" * 2, hostile)
    ]
    counts = tally_of(records)
    folder = write_run(tmp_path / "run", records)
    lines = [*section(counts, summarize(counts), comparison=compare(folder, folder))]
    lines += header(
        rows=9,
        names=hostile,
        sha256="ab" * 32,
        models=hostile,
        phase="both",
        sandbox="local",
        shard="99/100",
        workers=2,
    )
    assert max(map(len, lines)) <= 80
    assert not any(char in line for line in lines for char in "\x1b\x07\u202e\n")


def test_words() -> None:
    assert [seconds(x) for x in (0.0123, 0.9999, 59.99, 3661)] == [
        "12 ms",
        "1.0 s",
        "1 min 0 s",
        "1 h 1 min",
    ]
    assert [percent(x) for x in (0, 0.00001, 0.5, 0.99999, 1)] == [
        "0.0 %",
        "0.1 %",
        "50.0 %",
        "99.9 %",
        "100.0 %",
    ]
    assert (
        visible("a\tb\n\r\x9b\u2066\ud800\U000e0041") == "a\tb\n\\x0d\\x9b\\u2066\\ud800\\U000e0041"
    )


def test_a_summary_of_another_run_is_not_believed(tmp_path: Path) -> None:
    stale = {"successful_samples": 9, "total_samples": 9, "complete": True}
    run = load_run(write_run(tmp_path / "run", [record("a")], stale))
    assert not run.summary_found
    assert run.notes == ["summary.json is of another run: figures come from results.jsonl alone."]
    assert run.summary["total_samples"] == 1


def test_files_of_the_replaced_script_are_read(tmp_path: Path) -> None:
    old = {"task_id": 7, "task": "x", "setup_commands": None, "success_condition": "true"}
    lines = [
        {**old, "generated_command": "true", "overall_success": True},
        {**old, "task_id": 8, "generated_command": None, "error": "gone"},
    ]
    run = load_run(write_run(tmp_path / "run", lines))
    assert [(row.task_id, row.status) for row in run.rows] == [("7", "passed"), ("8", "error")]
