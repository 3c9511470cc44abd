from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.commands import Command, CommandStore
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.tasks import Task

SCRIPT_FIELDS = [
    "task_id",
    "task",
    "setup_commands",
    "success_condition",
    "generated_command",
    "timestamp",
]


def command(**changes: Any) -> Command:
    values: dict[str, Any] = {
        "task_id": "t1",
        "task": "List files",
        "setup_commands": ["touch a"],
        "success_condition": "test -e a",
        "generated_command": "ls",
        "timestamp": "2026-11-22T14:26:00.123456+00:00",
        "model": "m",
        "prompt_hash": "aa",
    }
    return Command(**{**values, **changes})


def task(**changes: Any) -> Task:
    values: dict[str, Any] = {
        "task_id": "t1",
        "task": "List files",
        "setup_commands": ("touch a",),
        "success_condition": "test -e a",
    }
    return Task(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> CommandStore:
    return CommandStore(tmp_path / "out" / "commands.jsonl")


def reread(store: CommandStore) -> CommandStore:
    store.close()
    again = CommandStore(store.path)
    again.load(must_exist=True)
    return again


def test_a_record_begins_with_the_fields_of_the_replaced_script() -> None:
    record = command(extra={"note": 1}).to_record()
    assert list(record)[:7] == [*SCRIPT_FIELDS, "model"]
    assert list(record)[-1] == "note"
    failed = command(generated_command=None, error="no answer").to_record()
    assert list(failed)[:7] == [*SCRIPT_FIELDS, "error"]
    assert failed["generated_command"] is None


def test_a_record_survives_a_round_trip() -> None:
    before = command(
        error="x",
        sample=2,
        raw_response="{}",
        reasoning="hm",
        finish_reason="stop",
        usage={"input_tokens": 3},
        latency_s=1.5,
        attempts=2,
        params={"temperature": 0.6},
        extra={"tags": ["a"]},
    )
    line = json.loads(json.dumps(before.to_record()))
    assert Command.from_record(line, "here") == before


@pytest.mark.parametrize(
    ("setup", "expected"), [(["a", "b"], ["a", "b"]), ("a; b", ["a; b"]), (None, []), ([], [])]
)
def test_lines_of_the_replaced_script_are_taken(setup: object, expected: list[str]) -> None:
    record = {
        "task_id": 7,
        "task": "x",
        "setup_commands": setup,
        "success_condition": "true",
        "generated_command": None,
        "timestamp": "2024-01-01",
        "error": "boom",
    }
    read = Command.from_record(record, "here")
    assert (read.task_id, read.setup_commands, read.model) == ("7", expected, None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", None),
        ("task", 3),
        ("success_condition", None),
        ("generated_command", ["ls"]),
        ("setup_commands", [1]),
        ("setup_commands", {}),
        ("sample", "1"),
        ("sample", True),
        ("params", []),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"f\.jsonl:3: .*{field}"):
        Command.from_record({**command().to_record(), field: value}, "f.jsonl:3")


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match="generated_command"):
        Command.from_record({"task_id": "a", "task": "b", "success_condition": "c"}, "x")


def test_all_broken_lines_are_named_at_once(store: CommandStore) -> None:
    store.append(command())
    store.close()
    with store.path.open("a") as file:
        file.write('{"task_id": "t2"}\nno json\n[]\n')
    with pytest.raises(UserError) as caught:
        CommandStore(store.path).load()
    message = str(caught.value)
    assert "commands.jsonl:2: field 'task' is missing" in message
    assert "commands.jsonl:3:" in message
    assert "commands.jsonl:4:" in message


def test_a_file_that_is_not_there(store: CommandStore) -> None:
    store.load()
    assert len(store) == 0
    assert store.samples == 0
    assert not store.path.exists()
    with pytest.raises(UserError, match=r"commands\.jsonl"):
        store.load(must_exist=True)


def test_cached_wants_the_very_same_request(store: CommandStore) -> None:
    store.append(command(params={"temperature": 1.0, "max_tokens": None}))
    store = reread(store)
    found = store.cached("t1", "m", 0, "aa", {"temperature": 1})
    assert found is not None
    assert found.generated_command == "ls"
    assert store.cached("t1", "m", 0, "bb", {"temperature": 1}) is None
    assert store.cached("t1", "m", 0, "aa", {"temperature": 0}) is None
    assert store.cached("t1", "m", 1, "aa", {"temperature": 1}) is None
    assert store.cached("t1", "other", 0, "aa", {"temperature": 1}) is None


def test_a_later_line_replaces_an_earlier_one(store: CommandStore) -> None:
    store.append(command())
    store.append(command(generated_command="ls -a"))
    store = reread(store)
    found = store.cached("t1", "m", 0, "aa", {})
    assert found is not None
    assert found.generated_command == "ls -a"
    assert len(store) == 1


def test_a_failed_refresh_does_not_lose_the_command(store: CommandStore) -> None:
    store.append(command())
    store.append(command(generated_command=None, error="503"))
    store = reread(store)
    assert store.cached("t1", "m", 0, "aa", {}) is None
    found = store.for_execution(task(), "m", 0)
    assert found is not None
    assert found.generated_command == "ls"


def test_an_answer_without_a_command_is_an_answer(store: CommandStore) -> None:
    # as earlier versions wrote it, too
    store.append(command(generated_command=None, error="declined", raw_response="No."))
    store = reread(store)
    found = store.cached("t1", "m", 0, "aa", {})
    assert found is not None
    assert (found.answered, found.error) == (True, "declined")
    store.append(command())
    store.append(command(generated_command=None, error="declined", raw_response="Still no."))
    store.append(command(generated_command=None, error="503"))
    found = reread(store).for_execution(task(), "m", 0)
    assert found is not None
    assert found.raw_response == "Still no."


def test_what_a_failing_server_sent_is_no_answer(store: CommandStore) -> None:
    # earlier versions took it for one
    sent = {"raw_response": "", "finish_reason": "error", "error": "the reply is empty"}
    store.append(command(generated_command=None, **sent))
    store = reread(store)
    assert store.cached("t1", "m", 0, "aa", {}) is None
    found = store.for_execution(task(), "m", 0)
    assert found is not None
    assert not found.answered


def test_a_failure_under_another_prompt_does_not_pass_off_the_old_command(
    store: CommandStore,
) -> None:
    store.append(command())
    store.append(command(prompt_hash="bb", generated_command=None, error="503"))
    found = reread(store).for_execution(task(), "m", 0)
    assert found is not None
    assert found.error == "503"


def test_a_prompt_that_is_asked_again_is_in_force_again(store: CommandStore) -> None:
    for prompt, text in (("aa", "ls"), ("bb", "pwd"), ("aa", "ls -a")):
        store.append(command(prompt_hash=prompt, generated_command=text))
    for each in (store, reread(store)):
        found = each.for_execution(task(), "m", 0)
        assert found is not None
        assert (found.prompt_hash, found.generated_command) == ("aa", "ls -a")
        other = each.cached("t1", "m", 0, "bb", {})
        assert other is not None
        assert other.generated_command == "pwd"


def test_for_execution_takes_the_last_line_whatever_the_prompt(store: CommandStore) -> None:
    store.append(command())
    store.append(command(prompt_hash="bb", generated_command="ls -l", params={"temperature": 0}))
    store.append(command(model="n", generated_command="dir"))
    store.append(command(sample=1, generated_command="ls -1"))
    store = reread(store)

    def chosen(model: str | None, sample: int = 0) -> str | None:
        found = store.for_execution(task(), model, sample)
        return found.generated_command if found else None

    assert chosen("m") == "ls -l"
    assert chosen("n") == "dir"
    assert chosen(None) == "dir"
    assert chosen("m", 1) == "ls -1"
    assert chosen("m", 2) is None
    assert chosen("unknown") is None
    assert store.models() == ["m", "n"]
    assert store.samples == 2
    assert len(store) == 3


def test_records_without_a_model_serve_any(store: CommandStore) -> None:
    store.append(command(model=None))
    found = store.for_execution(task(), "gpt", 0)
    assert found is not None
    assert found.generated_command == "ls"
    assert store.models() == []
    store.append(command(model="gpt", generated_command=None, error="no"))
    found = store.for_execution(task(), "gpt", 0)
    assert found is not None
    assert found.error == "no"


def test_files_made_elsewhere_are_matched_by_their_text(store: CommandStore) -> None:
    store.append(command(task_id="elsewhere-1", model=None))
    store.append(command(task_id="row::2", task="Other", model=None, generated_command="id"))
    found = store.for_execution(task(task_id="0badcafe"), "gpt", 0)
    assert found is not None
    assert found.task_id == "elsewhere-1"
    assert store.for_execution(task(task_id="x", success_condition="false"), None, 0) is None
    for each in store.tasks():
        assert store.for_execution(each, None, 0) is not None


def test_tasks_are_rebuilt_from_the_records(store: CommandStore) -> None:
    extra = {"tags": ["git"], "timeout": 5.0, "steps": "shared", "difficulty_level": 2, "hint": "h"}
    store.append(command(extra=extra))
    store.append(command(sample=1, extra=extra))
    store.append(command(task_id="t2", setup_commands=[]))
    first, second = reread(store).tasks()
    assert first.task_id == "t1"
    assert first.setup_commands == ("touch a",)
    assert (first.tags, first.timeout, first.steps) == (("git",), 5.0, "shared")
    assert (first.difficulty_level, first.metadata) == (2, {"hint": "h"})
    assert (second.task_id, second.setup_commands) == ("t2", ())


def test_a_cut_last_line_is_passed_over_and_written_after(store: CommandStore) -> None:
    store.append(command())
    store.close()
    with store.path.open("a") as file:
        file.write('{"task_id": "t2", "ta')
    again = reread(store)
    assert len(again) == 1
    again.append(command(task_id="t3"))
    assert len(reread(again)) == 2
