from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Message
from pytest_shelleval.models.prompt import PromptTemplate, prompt_hash


def task(**changes: Any) -> Task:
    values: dict[str, Any] = {
        "task_id": "t1",
        "task": "List {files}",
        "setup_commands": ("mkdir a", "cd a"),
        "success_condition": "true",
        "difficulty_level": 2,
        "tags": ("fs", "easy"),
        "metadata": {"hint": "use ls", "flags": {"a": 1}, "strict": True},
    }
    return Task(**{**values, **changes})


def filled(template: str, **changes: Any) -> str:
    return PromptTemplate(template).render(task(**changes))[0]["content"]


def test_the_built_in_wording() -> None:
    (message,) = PromptTemplate().render(task())
    assert message == {
        "role": "user",
        "content": 'List {files}\n\nWrap the shell command in {"command":"[your_command_here]"}',
    }


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{task}", "List {files}"),
        ("{task_id}/{difficulty_level}", "t1/2"),
        ("{setup_commands}", "mkdir a\ncd a"),
        ("{tags}", "fs, easy"),
        ("{hint} {flags} {strict}", 'use ls {"a": 1} true'),
        ("[{gold_command}]", "[]"),
        ('{"command": "{task}"}', '{"command": "List {files}"}'),
        ("{{task}}", "{List {files}}"),
        ("${task} ${HOME} {} {0} { task } {a-b}", "${task} ${HOME} {} {0} { task } {a-b}"),
        ("{unknown_thing} {task}", "{unknown_thing} List {files}"),
    ],
)
def test_places(template: str, expected: str) -> None:
    assert filled(template) == expected


def test_a_column_that_only_other_rows_have_leaves_nothing() -> None:
    template = PromptTemplate("{task}{remark} {unknown_thing}", columns=frozenset({"remark"}))
    assert template.render(task())[0]["content"] == "List {files} {unknown_thing}"
    assert template.render(task(metadata={"remark": "!"}))[0]["content"] == (
        "List {files}! {unknown_thing}"
    )


@pytest.mark.parametrize("slip", ["taks", "Task", "dificulty_level", "setup_command", "hnit"])
def test_a_misspelt_column_is_named(slip: str) -> None:
    with pytest.raises(UserError, match=slip):
        filled(f"{{{slip}}} {{task}}")


def test_templates_from_files(tmp_path: Path) -> None:
    user, system = tmp_path / "user.txt", tmp_path / "system.txt"
    user.write_bytes(b"\xef\xbb\xbfDo: {task}\r\n\n")
    system.write_text("You write bash. {hint}\n")
    template = PromptTemplate.from_files(user, system)
    assert template.render(task()) == [
        {"role": "system", "content": "You write bash. use ls"},
        {"role": "user", "content": "Do: List {files}"},
    ]
    assert PromptTemplate.from_files(None).user == PromptTemplate().user
    assert template.sha256 != PromptTemplate().sha256


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe{task}", b"no place"])
def test_a_prompt_file_that_will_not_do(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "prompt.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"prompt\.txt"):
        PromptTemplate.from_files(path)


def test_the_hash_of_a_prompt() -> None:
    messages = PromptTemplate().render(task())
    assert prompt_hash(messages) == prompt_hash(PromptTemplate().render(task(task_id="x")))
    assert len(prompt_hash(messages)) == 16
    assert prompt_hash(messages) != prompt_hash([Message(role="system", content="x"), *messages])
