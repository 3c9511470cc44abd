"""Every faulty row is found and no sound one: real sandboxes, through the front door."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.datasets import read_rows
from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.execution import ExecutionPolicy
from pytest_shelleval.core.sandbox import ExecResult
from pytest_shelleval.core.tasks import sift_tasks
from pytest_shelleval.sandboxes.local.probe import probe
from pytest_shelleval.sandboxes.local.provider import LocalProvider
from pytest_shelleval.validation.findings import KINDS, Report
from pytest_shelleval.validation.probes import LEAVE, NOTHING
from pytest_shelleval.validation.text import lines
from pytest_shelleval.validation.validate import Validation
from tests.core.fakes import Scripted, done
from tests.validation.rows import FAULTY, SOUND, WARNED

POLICY = ExecutionPolicy(command_timeout=3.0)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def validate(path: Path, source: Any, **options: Any) -> Report:
    tasks, faults = sift_tasks([read_rows(str(path))])
    validation = Validation(
        tasks[0], source, POLICY, faults=faults, datasets=[path.name], **options
    )
    validation.run()
    return validation.report()


@pytest.fixture(scope="module")
def provider() -> Any:
    report = probe()
    if not report.ok:
        pytest.skip(report.message)
    made = LocalProvider(pool_size=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def report(provider: Any, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Of all rows of the small dataset together."""
    rows = [*SOUND, *(row for row, _ in (*FAULTY.values(), *WARNED.values()))]
    path = write(tmp_path_factory.mktemp("rows") / "tasks.jsonl", rows)
    return validate(path, provider, steps="separate", jobs=2)


def kinds_of(report: Report, task_id: str, severity: str) -> set[str]:
    rows = [*SOUND, *(row for row, _ in (*FAULTY.values(), *WARNED.values()))]
    # the last of its name, for one of the faults is to have a name that is taken
    line = max(number for number, row in enumerate(rows, 1) if row["task_id"] == task_id)
    return {
        each.kind
        for each in report.findings
        if each.where.endswith(f".jsonl:{line}") and each.severity == severity
    }


@pytest.mark.parametrize("task_id", FAULTY)
def test_a_faulty_row_is_found(report: Report, task_id: str) -> None:
    assert FAULTY[task_id][1] in kinds_of(report, task_id, "fault")


@pytest.mark.parametrize("task_id", WARNED)
def test_a_doubtful_row_is_warned_of(report: Report, task_id: str) -> None:
    assert WARNED[task_id][1] in kinds_of(report, task_id, "warning")
    assert kinds_of(report, task_id, "fault") == set()


def test_nothing_is_said_of_sound_rows(report: Report) -> None:
    said = [
        each
        for each in report.findings
        if int(each.where.rpartition(":")[2]) <= len(SOUND) and each.kind != "repeats"
    ]
    assert said == []


def test_the_counts_and_the_exit_status(report: Report) -> None:
    unreadable = sum(kind == "row" for _, kind in FAULTY.values())
    assert len(report.faulty) == len(FAULTY)
    assert report.rows == len(SOUND) + len(FAULTY) + len(WARNED)
    assert report.judged == report.rows - unreadable
    assert report.sound == len(SOUND) + len(WARNED)
    assert report.without_gold == 2
    assert report.complete
    assert report.exit_status() == 1
    found = json.loads(json.dumps(report.to_json()))
    assert (found["faulty"], found["sound"]) == (len(FAULTY), report.sound)
    by_id = {(each["task_id"], each["kind"]): each for each in found["findings"]}
    assert by_id["or-true", "passes-undone"]["detail"] == "it ends in `|| true`"
    assert by_id["or-true", "passes-undone"]["mend"]


def test_the_text_names_rows_and_fits_a_terminal(report: Report) -> None:
    text = list(lines(report))
    assert all(len(line) <= 80 for line in text)
    assert f"FAULTS: {len(FAULTY)} rows" in text
    whole = " ".join(" ".join(text).split())
    for task_id in (*FAULTY, *WARNED):
        assert f" {task_id}: " in whole or task_id == "no-task", task_id
    for kind in {kind for _, kind in (*FAULTY.values(), *WARNED.values())}:
        assert f"fix: {KINDS[kind].fix}" in whole
    # why, in the words of someone who uses a shell
    assert "setup command 2 of 2 failed with exit code 127: command not found: makefile-x" in whole
    assert "it ends with exit code 1, though the condition is met" in whole
    assert "though the gold command leaves code.sh" in whole
    assert "the condition could not run: cmp-x was not found" in whole


def test_warnings_count_when_they_are_told_to(provider: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "tasks.jsonl", [SOUND[0], WARNED["hollow"][0]])
    found = validate(path, provider)
    assert (found.exit_status(), found.exit_status(strict=True)) == (0, 1)


SHARED = [
    {
        "task_id": f"shared-{name}",
        "task": f"Copy a.txt to {name}.txt",
        "setup_commands": ["mkdir d", "cd d", "echo a > a.txt"],
        "success_condition": f"cmp -s a.txt {name}.txt",
        "gold_command": f"cp a.txt {name}.txt",
    }
    for name in "bc"
]
SEPARATE = {
    "task_id": "separate",
    "task": "Write where you are to where.txt",
    "setup_commands": ["mkdir d", "cd d"],
    "success_condition": '[ "$(cat where.txt)" = "$HOME" ]',
    "gold_command": "pwd > where.txt",
}


def test_the_steps_for_which_a_dataset_was_written_are_found(provider: Any, tmp_path: Path) -> None:
    found = validate(write(tmp_path / "shared.jsonl", [*SHARED, SOUND[0]]), provider)
    assert (found.steps, found.findings) == ("shared", [])
    assert "shared-b, shared-c pass with steps shared only" in found.notes[0]
    found = validate(write(tmp_path / "both.jsonl", [*SHARED, SEPARATE]), provider)
    assert [(each.kind, each.task_id) for each in found.findings] == [("other-steps", "separate")]
    # the column of a row stands above all
    rows = [{**row, "steps": "shared"} for row in SHARED]
    found = validate(write(tmp_path / "column.jsonl", [*rows, SEPARATE]), provider)
    assert (found.steps, found.findings, found.notes) == ("separate", [], [])
    found = validate(tmp_path / "shared.jsonl", provider, steps="separate")
    assert [each.kind for each in found.findings] == ["other-steps"] * 2


class Plain:
    """A sandbox that gives no account of what commands did, as those of other kinds."""

    def __init__(self, sandbox: Any) -> None:
        self.id, self.info = sandbox.id, sandbox.info
        self.exec, self.exec_session = sandbox.exec, sandbox.exec_session
        self.session_directory, self.close = sandbox.session_directory, sandbox.close


class PlainSource:
    def __init__(self, source: Any) -> None:
        self._source = source

    def acquire(self) -> Plain:
        return Plain(self._source.acquire())


def test_sandboxes_that_give_no_account_of_commands(provider: Any, tmp_path: Path) -> None:
    faulty = [row for row, kind in FAULTY.values() if kind == "passes-after-deletion"]
    path = write(tmp_path / "tasks.jsonl", [*SOUND[:4], *faulty])
    found = validate(path, PlainSource(provider), jobs=1)
    assert {(each.task_id, each.kind, each.severity) for each in found.findings} == {
        (row["task_id"], "passes-after-deletion", "fault") for row in faulty
    }


# -- what no real sandbox can be made to do -----------------------------------------------------------


def scripted(tmp_path: Path, answer: Callable[[str], ExecResult], **options: Any) -> Report:
    row = {"task_id": "t", "task": "Do it", "success_condition": "CHECK", "gold_command": "GOLD"}
    source = Scripted(answer, broken=options.pop("broken", 0))
    return validate(write(tmp_path / "tasks.jsonl", [row]), source, jobs=1, **options)


def test_a_sandbox_that_fails_is_no_fault_of_the_row(tmp_path: Path) -> None:
    def dies(text: str) -> ExecResult:
        if text == "CHECK":
            raise SandboxError("its supervisor is gone")
        return done()

    found = scripted(tmp_path, dies)
    assert [(each.kind, each.severity) for each in found.findings] == [("sandbox", "remark")]
    assert "its supervisor is gone" in found.findings[0].detail
    assert (found.judged, found.exit_status()) == (0, 3)
    assert "1 not judged" in " ".join(lines(found))


def test_a_want_of_ids_is_no_fault_of_the_row(tmp_path: Path) -> None:
    def has_one_id(text: str) -> ExecResult:
        return (
            done(1, "chown: invalid user", missing_capability="ids")
            if text in ("GOLD", "CHECK")
            else done()
        )

    found = scripted(tmp_path, has_one_id)
    assert [(each.kind, each.severity) for each in found.findings] == [("ids", "remark")]
    assert "install uidmap" in " ".join(lines(found))
    assert found.exit_status() == 3


def test_without_any_sandbox_it_says_so(tmp_path: Path) -> None:
    def none(text: str) -> ExecResult:
        raise SandboxUnavailable("no sandboxes here")

    with pytest.raises(SandboxUnavailable, match="no sandboxes here"):
        scripted(tmp_path, none)


def test_a_fault_that_goes_away_is_none(tmp_path: Path) -> None:
    state = {"gold": False}

    def answer(text: str) -> ExecResult:
        if text == "CHECK":
            return done(0 if state["gold"] else 1)
        if text in ("GOLD", NOTHING, LEAVE):
            state["gold"] = text == "GOLD"
        return done()

    found = scripted(tmp_path, answer, broken=2, steps="separate")
    assert (found.findings, found.sound) == ([], 1)


@pytest.mark.parametrize(
    ("passing", "kind", "detail"),
    [
        ({1}, "flaky", "when nothing is done it passes in 1 of 3 runs"),
        ({1, 3}, "flaky", "when nothing is done it passes in 2 of 3 runs"),
        ({1, 2, 3}, "passes-undone", "exit code 0"),
    ],
)
def test_what_passes_undone_now_and_then_is_flaky(
    tmp_path: Path, passing: set[int], kind: str, detail: str
) -> None:
    last, times = "", Counter[str]()

    def answer(text: str) -> ExecResult:
        nonlocal last
        if text == "CHECK":
            return done(0 if last == "GOLD" or (last == NOTHING and times[last] in passing) else 1)
        if text in ("GOLD", NOTHING, LEAVE):
            last = text
            times[text] += 1
        return done()

    found = scripted(tmp_path, answer, steps="separate")
    assert [(each.kind, each.severity, each.detail) for each in found.findings] == [
        (kind, "fault", detail)
    ]
