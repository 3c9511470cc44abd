"""--shelleval-shard and shelleval merge: several machines come to the same as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.cli.main import main
from pytest_shelleval.core.shards import parse_shard, tasks_of
from tests.support import ROWS, Evaluation

ORACLE = "--shelleval-model=oracle"
BAD = {**ROWS[0], "task_id": "bad", "gold_command": "false", "difficulty_level": "hard"}
ERROR = {**ROWS[0], "task_id": "error", "setup_commands": ["false"]}
TASKS = [*ROWS, BAD, ERROR, *({**ROWS[1], "task_id": f"copy-{n}"} for n in range(2))]
# what differs from run to run, or says which shards there were
VOLATILE = {"durations", "evaluation_time", "settings", "shards"}


def summary_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def ids(path: Path) -> list[tuple[str, int]]:
    lines = map(json.loads, path.read_text().splitlines())
    return sorted((line["task_id"], line["sample"]) for line in lines)


def test_three_shards_come_to_the_same_as_one_run(
    evaluation: Evaluation, mode: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.rows(*TASKS)
    args = (ORACLE, "--shelleval-samples=2")
    evaluation.run(*args, "--shelleval-output-dir=one", *mode)
    for number in (1, 2, 3):
        shard = f"--shelleval-shard={number}/3"
        done = evaluation.run(*args, shard, f"--shelleval-output-dir=part{number}", *mode)
        mine = tasks_of(parse_shard(f"{number}/3"), [row["task_id"] for row in TASKS])
        expected = sorted((ident, sample) for ident in mine for sample in (0, 1))
        folder = evaluation.folder / f"part{number}"
        assert ids(folder / "results.jsonl") == expected
        assert ids(folder / "commands.jsonl") == expected  # nothing else was asked for
        done.stdout.fnmatch_lines_random([f"shard {number}/3: *", "selected *, run *, errors *"])
        if "2" not in mode:  # xdist does not say how many were deselected
            assert done.parseoutcomes()["deselected"] == 2 * (len(TASKS) - len(mine))
    parts = [str(evaluation.folder / f"part{number}") for number in (3, 1, 2)]
    one, whole = evaluation.folder / "one", evaluation.folder / "whole"
    assert main(["merge", *parts, "--output", str(whole), "--fail-under", "0.7"]) == 0
    said = capsys.readouterr().out
    assert "gate passed: pass rate 71.4 % (10 of 14), --shelleval-fail-under=0.7" in said
    assert f"report: {whole}/report.html" in said
    for name in ("results.jsonl", "commands.jsonl"):
        assert ids(whole / name) == ids(one / name)
    before, after = summary_of(one), summary_of(whole)
    for name in VOLATILE:
        before.pop(name, None), after.pop(name)
    assert after == before
    assert main(["compare", str(one), str(whole), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["counts"]["still_passing"] == 5
    assert '"copy-1"' in (whole / "report.html").read_text()


def test_a_shard_without_a_task_has_ended_well(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.rows(ROWS[0], ROWS[1])
    status = []
    for number in (1, 2, 3):
        args = (f"--shelleval-shard={number}/3", f"--shelleval-output-dir=part{number}")
        status.append(evaluation.run(ORACLE, *args, "--shelleval-fail-under=1", *mode).ret)
    assert status == [0, 0, 0]
    assert summary_of(evaluation.folder / "part3")["total_samples"] == 0
    parts = [str(evaluation.folder / f"part{number}") for number in (1, 2, 3)]
    whole = evaluation.folder / "whole"
    assert main(["merge", *parts, "--output", str(whole)]) == 0
    summary = summary_of(whole)
    assert (summary["total_samples"], summary["complete"]) == (2, True)


def test_phase_1_asks_for_the_shards_tasks_and_other_tests_stay(evaluation: Evaluation) -> None:
    evaluation.pytester.makepyfile("def test_it(): pass")
    args = (ORACLE, "--shelleval-shard=1/3")
    done = evaluation.run(*args, "--collect-only")
    done.stdout.fnmatch_lines(["*= 1/3 tests collected (2 deselected) in *"])
    evaluation.run(*args, "--shelleval-phase=inference", "-n", "2")
    assert len(evaluation.lines("commands.jsonl")) == 1
    name = next(path.name for path in evaluation.folder.glob("test_*.py"))
    evaluation.run(*args, "--shelleval-phase=execution", name).assert_outcomes(
        passed=2, deselected=2
    )


def test_a_wrong_shard_is_said(evaluation: Evaluation) -> None:
    done = evaluation.run(ORACLE, "--shelleval-shard=0/3")
    assert done.ret == 4
    assert (
        "--shelleval-shard: I/N is expected, with I from 1 to N, such as 1/3, not '0/3'"
        in done.stderr.str()
    )
