"""Whatever stands in a file: tasks and commands come out of it, or one message that says where."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.core.datasets import read_rows
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.tasks import build_tasks

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.just("\ud800")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
NAMES = ("task", "setup_commands", "success_condition", "task_id", "id", "gold_command", "tags")
MORE = ("difficulty_level", "timeout", "steps", "generated_command", "model", "sample", "params")
RECORDS = st.dictionaries(st.sampled_from([*NAMES, *MORE]), VALUES, max_size=8)
SOUND = {"task": "t", "success_condition": "true", "generated_command": "ls"}
LINES = st.one_of(
    st.binary(max_size=40),
    VALUES.map(lambda value: json.dumps(value).encode()),
    RECORDS.map(lambda record: json.dumps(record).encode()),
    RECORDS.map(lambda record: json.dumps({"task_id": "x", **SOUND, **record}).encode()),
)
FILES = st.one_of(
    st.binary(max_size=200),
    st.lists(LINES, max_size=5).map(b"\n".join),
    st.lists(LINES, max_size=3).map(lambda lines: b"[" + b",".join(lines) + b"]"),
)
DEEP = b"[" * 100_000
HUGE = b'{"task": "t", "success_condition": "c", "timeout": 1' + b"0" * 5000 + b"}"


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
@settings(max_examples=50, derandomize=True, database=None)
@given(content=FILES)
@example(content=DEEP)
@example(content=HUGE)
@example(content=b"[" + HUGE + b"]")
@example(content=b"task,success_condition,timeout\nt,c,1" + b"0" * 5000)
@example(content=b'task,setup_commands\nt,"' + DEEP + b'"')
@example(content=b"task\0,success_condition\nt,c")
@example(content=b"\xff\xfe[\x00]\x00")
def test_a_dataset_of_anything(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"d{suffix}")
        path.write_bytes(content)
        tasks, said = [], ""
        try:
            (tasks,) = build_tasks([read_rows(path.name, base=path.parent)])
        except UserError as error:
            said = str(error)
        # parquet's own words for a bad file have no line to name
        assert not said or said.startswith((f"d{suffix}", f"can't read dataset d{suffix}: "))
        assert "Traceback" not in said
        assert len({task.task_id for task in tasks}) == len(tasks)
        for task in tasks:
            json.dumps([task.task, task.setup_commands, task.success_condition]).encode()
            assert "::" not in task.task_id
            assert task.task.strip()


@settings(max_examples=60, derandomize=True, database=None)
@given(content=FILES)
@example(content=DEEP)
@example(content=json.dumps({"task_id": "x", **SOUND, "sample": -1}).encode())
@example(content=json.dumps({"task_id": "x", **SOUND, "params": {"a": [float("inf")]}}).encode())
@example(content=b'{"task_id": 1' + b"0" * 5000 + b', "task": "t"}\n')
def test_a_commands_file_of_anything(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "commands.jsonl")
        path.write_bytes(content)
        store = CommandStore(path)
        tasks, said = [], ""
        try:
            store.load()
            tasks = store.tasks()
        except UserError as error:
            said = str(error)
        assert not said or said.startswith(str(path))
        for task in tasks:
            command = store.for_execution(task, None, 0)
            assert command is None or command.task == task.task
        store.close()
