"""shelleval merge: what does not belong together is said, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.cli.main import main
from pytest_shelleval.core.summary import ResultCounts, summarize
from pytest_shelleval.report.merge import FREE
from pytest_shelleval.settings.table import OPTIONS
from tests.report.records import Record, failed, record, write_run


def part(folder: Path, shard: str | None, *records: Record, **facts: Any) -> Path:
    """A shard as a run leaves it."""
    counts = ResultCounts()
    for each in records:
        counts.add(each)
    known: dict[str, Any] = {
        "dataset_sha256": "abc",
        "prompt_sha256": None,
        "model_name": "small",
        "evaluation_time": 2.0,
        "versions": {"python": "3.12"},
        "settings": {"steps": "separate", "pool_size": 1, "shard": shard},
        "shard": shard,
    }
    return write_run(folder, records, summarize(counts, **{**known, **facts}))


@pytest.fixture
def parts(tmp_path: Path) -> list[str]:
    a = part(tmp_path / "a", "1/2", record("x"), record("y", "error"), cost=0.25)
    b = part(tmp_path / "b", "2/2", failed("z"), cost=0.5)
    return [str(a), str(b)]


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["merge", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_the_gates(parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = write_run(tmp_path / "before", [record("x"), record("y"), record("z")])
    gates = [
        ("--fail-under", "0.3", 0),
        ("--fail-under", "0.5", 1),
        ("--max-errors", "1", 0),
        ("--max-errors", "0", 1),
        ("--fail-on", "regression", 1),
    ]
    for number, (option, value, status) in enumerate(gates):
        output = str(tmp_path / f"whole{number}")
        more = ["--baseline", str(baseline)] if option == "--fail-on" else []
        assert main(["merge", *parts, "--output", output, option, value, *more]) == status
        assert ("gate FAILED" if status else "gate passed") in capsys.readouterr().out
    summary = json.loads((tmp_path / "whole0" / "summary.json").read_text())
    assert (summary["cost"], summary["evaluation_time"]) == (0.75, 2.0)
    assert [each["shard"] for each in summary["shards"]] == ["1/2", "2/2"]


def test_a_report_that_can_not_be_written_is_not_named(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "whole"
    (output / "report.html").mkdir(parents=True)
    assert main(["merge", *parts, "--output", str(output)]) == 1
    said = capsys.readouterr().out
    assert f"can't write {output}/report.html" in said
    assert "report: " not in said


def test_a_partial_shard_makes_a_partial_run(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part(tmp_path / "b", "2/2", failed("z"), total=3)
    output = tmp_path / "whole"
    assert main(["merge", *parts, "--output", str(output), "--fail-under", "0"]) == 1
    said = capsys.readouterr().out
    assert "PARTIAL RUN: 2 of 5 selected commands have no result" in said
    assert "gate FAILED: the run is partial: 2 of 5 were not run" in said


def test_the_same_command_lines_are_kept_once(parts: list[str], tmp_path: Path) -> None:
    shared = '{"task_id": "x", "sample": 0}\n'
    for name, own in (("a", '{"task_id": "y"}\n'), ("b", '{"task_id": "z"}\n{"torn": ')):
        (tmp_path / name / "commands.jsonl").write_text(shared + own)
    main(["merge", *parts, "--output", str(tmp_path / "whole")])
    lines = (tmp_path / "whole" / "commands.jsonl").read_text().splitlines()
    assert [json.loads(line)["task_id"] for line in lines] == ["x", "y", "z"]


def test_what_does_not_belong_together(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = parts
    whole = tmp_path / "whole"
    output = ("--output", whole)
    assert "missing: shard 2/2" in refused(capsys, a, *output)
    assert f"shard 1/2 is given twice: {a} and {a}" in refused(capsys, a, a, b, *output)
    other = part(tmp_path / "c", "2/3", record("w"))
    assert "shards of different runs: " in refused(capsys, a, other, *output)
    same = part(tmp_path / "d", "2/2", record("x"))
    assert f"task x is in both {a} and {same}" in refused(capsys, a, same, *output)
    unsharded = part(tmp_path / "e", None, record("w"))
    assert f"{unsharded} is not a shard" in refused(capsys, a, unsharded, *output)
    assert f"{tmp_path}/none: no such file" in refused(capsys, a, tmp_path / "none", *output)
    facts: list[tuple[str, Any, str]] = [
        ("dataset_sha256", "abd", f"dataset_sha256 is abc in {a}, abd in "),
        ("model_name", "large", f"model is small in {a}, large in "),
        ("settings", {"steps": "shared"}, f"steps is separate in {a}, shared in "),
    ]
    for number, (name, value, message) in enumerate(facts):
        wrong = part(tmp_path / f"f{number}", "2/2", record("w"), **{name: value})
        assert message in refused(capsys, a, wrong, *output)
    docker = record("w", sandbox={"kind": "docker", "image": "debian"})
    boxed = part(tmp_path / "g", "2/2", docker)
    assert f"sandbox is local host in {a}, docker debian in {boxed}" in refused(
        capsys, a, boxed, *output
    )
    assert not whole.exists()


def test_what_may_differ_are_options() -> None:
    assert {option.field for option in OPTIONS} >= FREE


def test_a_shard_that_did_not_end(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = parts
    output = ("--output", tmp_path / "whole")
    with (tmp_path / "b" / "results.jsonl").open("a") as file:  # a later run, killed
        file.write(json.dumps(record("w")) + "\n")
    assert "run it again with --shelleval-resume" in refused(capsys, a, b, *output)
    (tmp_path / "b" / "summary.json").unlink()
    assert f"{b}: There is no summary.json" in refused(capsys, a, b, *output)


def test_wrong_arguments(
    parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    assert f"{parts[0]} already has results" in refused(capsys, *parts, "--output", parts[0])
    assert "--fail-on needs an earlier run" in refused(
        capsys, *parts, "--output", whole, "--fail-on", "regression"
    )
    assert "nowhere: no such file" in refused(
        capsys, *parts, "--output", whole, "--baseline", "nowhere"
    )
    with pytest.raises(SystemExit):
        main(["merge", *parts, "--output", str(whole), "--fail-under", "2"])
    assert "a fraction from 0 to 1 is expected" in capsys.readouterr().err
    assert not whole.exists()
