"""results.jsonl from run to run: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core import ledger as module
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import read_json_lines
from pytest_shelleval.core.ledger import Ledger
from pytest_shelleval.core.summary import Key


def record(name: str, said: str = "", **fields: Any) -> dict[str, Any]:
    known = {"task_id": name, "model": "m", "sample": 0, "status": "passed", "execution_key": "k"}
    return {**known, "command_output": said, **fields}


def ident(name: str) -> Key:
    return name, "m", 0


def fill(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))


def said(path: Path) -> dict[str, str]:
    lines = [line for _, line in read_json_lines(path)] if path.exists() else []
    assert len({line["task_id"] for line in lines}) == len(lines)
    return {line["task_id"]: line["command_output"] for line in lines}


def loaded(folder: Path) -> Ledger:
    found = Ledger(folder)
    found.load()
    return found


def test_a_line_tells_status_and_execution_key(tmp_path: Path) -> None:
    fill(tmp_path / "results.jsonl", record("a"), record("b", execution_key=None, status="failed"))
    fill(tmp_path / "results.earlier.jsonl", record("c", execution_key=7))
    found = loaded(tmp_path).lines
    assert {key[0]: (line.status, line.key) for key, line in found.items()} == {
        "a": ("passed", "k"),
        "b": ("failed", None),
        "c": ("passed", None),
    }


def test_what_is_kept_thrown_away_and_put_aside(tmp_path: Path) -> None:
    fill(tmp_path / "results.jsonl", *(record(name, "new") for name in "abc"))
    fill(tmp_path / "results.earlier.jsonl", *(record(name, "old") for name in "cde"))
    ledger = loaded(tmp_path)
    assert set(ledger.lines) == {ident(name) for name in "abcde"}
    assert not ledger.begun
    ledger.begin(keep={ident("a"), ident("d")}, drop={ident("e")})
    assert ledger.begun
    assert said(ledger.results) == {"a": "new", "d": "old"}
    for name, line in ledger.lines.items():  # offsets are those of the file as it is now
        with line.path.open("rb") as file:
            file.seek(line.offset)
            assert json.loads(file.readline())["task_id"] == name[0]
    ledger.write(record("b", "now"))
    assert ledger.close({ident(name) for name in "abd"}) == 1
    assert ledger.close({ident(name) for name in "abd"}) == 1
    assert said(ledger.results) == {"a": "new", "d": "old", "b": "now"}
    assert said(ledger.earlier) == {"c": "new"}


@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_kill_between_the_files_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    fill(tmp_path / "results.jsonl", *(record(name) for name in "abc"))
    fill(tmp_path / "results.earlier.jsonl", record("d"), record("e"))
    calls = 0
    replace = module.replace_file_by

    def killed(path: Path, parts: Any) -> None:
        nonlocal calls
        if calls == done:
            raise KeyboardInterrupt
        calls += 1
        replace(path, parts)

    monkeypatch.setattr(module, "replace_file_by", killed)
    ledger = loaded(tmp_path)
    keep = {ident("a"), ident("d")}

    def resume(ledger: Ledger) -> None:
        ledger.begin(keep=keep)
        ledger.close(keep)

    with pytest.raises(KeyboardInterrupt):
        resume(ledger)
    monkeypatch.setattr(module, "replace_file_by", replace)
    again = loaded(tmp_path)
    assert set(again.lines) == {ident(name) for name in "abcde"}
    resume(again)
    assert said(again.results).keys() == {"a", "d"}
    assert said(again.earlier).keys() == {"b", "c", "e"}


def test_a_torn_line_and_lines_of_the_same_command(tmp_path: Path) -> None:
    fill(tmp_path / "results.jsonl", record("a", "1"), record("a", "2"), record("b"))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"task_id": "c", "comm')
    (tmp_path / ".results.jsonl.x1y2").write_text("what a killed process was writing")
    ledger = loaded(tmp_path)
    ledger.begin(keep={ident("a"), ident("b")})
    ledger.write(record("c"))
    ledger.close(())
    assert said(ledger.results) == {"a": "2", "b": "", "c": ""}
    assert [each.name for each in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_file_that_need_not_change_is_left_alone(tmp_path: Path) -> None:
    fill(tmp_path / "results.jsonl", record("a"), record("b"))
    fill(tmp_path / "results.earlier.jsonl", record("c"))
    files = [tmp_path / "results.jsonl", tmp_path / "results.earlier.jsonl"]
    before = [file.stat().st_ino for file in files]
    ledger = loaded(tmp_path)
    ledger.begin(keep={ident("a"), ident("b")})
    ledger.close(())
    assert [file.stat().st_ino for file in files] == before


def test_every_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"status": "passed"}\n{broken\n' + json.dumps(record("a")) + "\n")
    with pytest.raises(UserError) as raised:
        loaded(tmp_path)
    assert f"{path}:1: field 'task_id' is missing" in str(raised.value)
    assert f"{path}:2: not JSON" in str(raised.value)
    assert "move the file away" in str(raised.value)
