"""shelleval extract: today's rules on replies that were kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.cli.main import main


def record(number: int, raw: str | None, command: str | None, **more: Any) -> dict[str, Any]:
    fields = {"task_id": f"t{number}", "task": "x", "success_condition": "true", "model": "m"}
    return {**fields, "generated_command": command, "raw_response": raw, **more}


RECORDS = [
    record(0, '{"command":"ls"}', "ls", usage={"input_tokens": 3}),
    record(1, '{"command":"ls"}', None, error="the reply holds no command", confidence=0.5),
    record(2, "I am sorry, but I can't do that.", "I am sorry"),
    record(3, "```bash\npwd\n```", "bash pwd"),
    record(4, None, None, error="500"),
    record(5, "ls; pwd", "something", model="oracle"),
    record(6, '{"command":"ls"}', "by its own code", command_from="model"),
    record(7, '{"command":"ls"}', "by a hook", command_from="hook"),
    record(8, '{"command":"ls"}', None, command_from="model", error="no command"),
]


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(each) + "\n" for each in records))
    return path.read_text()


def call(*words: str) -> int:
    return main(["extract", *words])


def test_what_changed_is_rewritten_and_the_rest_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "commands.jsonl"
    before = write(path, RECORDS)
    assert call(str(path)) == 0
    out = capsys.readouterr().out
    assert "3 of 4 replies changed" in out
    assert "1 gained a command, 1 lost it, 1 got another" in out
    assert "4 commands of tool calls, models' own code or a hook stay unchanged" in out
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [each["generated_command"] for each in found] == [
        "ls",
        "ls",
        None,
        "pwd",
        None,
        "something",
        "by its own code",
        "by a hook",
        None,
    ]
    assert [each.get("command_from") for each in found] == [
        *[None, "json", None, "fence", None, None],
        *["model", "hook", "model"],
    ]
    assert "error" not in found[1]
    assert found[1]["confidence"] == 0.5
    assert found[2]["error"]
    assert found[4] == RECORDS[4]
    assert (tmp_path / "commands.jsonl.bak").read_text() == before
    after = path.read_text()
    assert call(str(path)) == 0
    assert path.read_text() == after
    assert len(list(tmp_path.iterdir())) == 2


def test_a_reply_that_was_cut_off_after_its_command(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    cut = "Use `ls -l`, like this:\n```\nls -la /ho"
    write(path, [record(0, cut, None, finish_reason="length", error="cut off")])
    assert call(str(path)) == 0
    found = json.loads(path.read_text())
    assert (found["generated_command"], found["command_from"]) == ("ls -l", "inline")
    assert "error" not in found


def test_an_older_backup_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    write(path, RECORDS)
    (tmp_path / "c.jsonl.bak").write_text("older")
    call(str(path))
    assert (tmp_path / "c.jsonl.bak").read_text() == "older"
    assert (tmp_path / "c.jsonl.bak.2").exists()


def test_a_dry_run_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.jsonl"
    before = write(path, RECORDS)
    call(str(path), "--dry-run", "--json")
    assert json.loads(capsys.readouterr().out)["changed"] == 3
    assert path.read_text() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", [None, "{\n", '{"raw_response": 3}\n'])
def test_a_file_that_is_none(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.jsonl"
    if text is not None:
        path.write_text(text)
    assert call(str(path)) == 2
    assert str(path) in capsys.readouterr().err
