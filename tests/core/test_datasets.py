"""Every format gives the same rows; what can't be read is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.datasets import read_copy, read_rows, write_copy
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.tasks import Task, build_tasks

ROWS: list[dict[str, Any]] = [
    {
        "task_id": "one",
        "task": "Schreib 'grün' in x.txt",
        "setup_commands": ["mkdir a", "cd a"],
        "success_condition": "test -f x.txt\ntrue",
        "difficulty_level": "easy",
    },
    {
        "task_id": "two",
        "task": "Literal \\n and a tab\t.",
        "setup_commands": [],
        "success_condition": "true",
        "difficulty_level": None,
    },
]


def write(kind: str, folder: Path) -> str:
    """Write ROWS in the format *kind*; the dataset's name."""
    path = folder / f"tasks.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\r\n\n" for row in ROWS), encoding="utf-8-sig")
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=1, ensure_ascii=False))
    elif kind in ("csv", "tsv"):
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if kind == "tsv" else ",")
            writer.writerow(ROWS[0])
            for row in ROWS:
                row = {**row, "setup_commands": json.dumps(row["setup_commands"])}
                writer.writerow(["" if value is None else value for value in row.values()])
    else:
        import datasets

        data = datasets.Dataset.from_list(ROWS)
        if kind == "parquet":
            data.to_parquet(str(path))
        elif kind == "arrow":
            data.save_to_disk(str(path))
        elif kind == "splits":
            datasets.DatasetDict({"train": data.select([0]), "test": data}).save_to_disk(str(path))
    return path.name


def load(name: str, folder: Path, split: str = "test") -> list[Task]:
    (tasks,) = build_tasks([read_rows(name, split=split, base=folder)])
    return tasks


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "arrow", "splits"])
def test_every_format_gives_the_same_tasks(kind: str, tmp_path: Path) -> None:
    tasks = load(write(kind, tmp_path), tmp_path)
    assert [task.task_id for task in tasks] == ["one", "two"]
    assert [task.task for task in tasks] == [row["task"] for row in ROWS]
    assert [task.setup_commands for task in tasks] == [("mkdir a", "cd a"), ()]
    assert tasks[0].success_condition == "test -f x.txt\ntrue"
    assert [task.difficulty_level for task in tasks] == ["easy", None]


def test_a_split_of_a_saved_folder(tmp_path: Path) -> None:
    name = write("splits", tmp_path)
    assert len(load(name, tmp_path, "train")) == 1
    with pytest.raises(
        UserError, match=r"no split 'dev'; --shelleval-split takes one of: train, test"
    ):
        load(name, tmp_path, "dev")


def test_a_json_file_may_hold_json_lines(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert len(load("t.json", tmp_path)) == 2


def test_places_are_lines(tmp_path: Path) -> None:
    for kind in ("jsonl", "json", "csv"):
        tasks = load(write(kind, tmp_path), tmp_path)
        first, second = (int(task.source.removeprefix(f"tasks.{kind}:")) for task in tasks)
        lines = (tmp_path / f"tasks.{kind}").read_text().splitlines()
        assert any("one" in line for line in lines[first - 1 : second - 1])
        assert any("two" in line for line in lines[second - 1 :])


def test_a_csv_row_stands_where_it_begins(tmp_path: Path) -> None:
    content = 'task,success_condition\na,true\n"b\nc",true\n"d\ne\nf","true\n"\ng,true\n'
    (tmp_path / "t.csv").write_text(content)
    sources = [task.source for task in load("t.csv", tmp_path)]
    assert sources == ["t.csv:2", "t.csv:3", "t.csv:5", "t.csv:9"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"task": 1\n[]\n', r"t.jsonl:1: not JSON: .*\nt.jsonl:2: a JSON object"),
        ("t.jsonl", b'{"task": "\xff"}\n', r"t.jsonl:1: not UTF-8"),
        ("t.json", b'[{"task": "x",\n]', r"t.json:1: not JSON"),
        ("t.json", b'[\n3,\n"x"\n]', r"t.json:2: a JSON object .*\nt.json:3: a JSON object"),
        ("t.json", b"\xff", r"can't read dataset t.json"),
        ("t.csv", b"task,success_condition\na,b,c\n", r"t.csv:2: more cells than the header's 2"),
        ("t.csv", b"task,success_condition\na,\n", r"t.csv:2: success_condition: missing"),
        ("t.csv", b'task,success_condition\na,b\n"c\nd",\ne,f,g\n', r"t.csv:3: .*\nt.csv:5: more"),
        ("t.parquet", b"not parquet", r"can't read dataset t.parquet"),
        ("t.jsonl", b"[" * 100_000 + b"\n", r"t.jsonl:1: not JSON"),
    ],
)
def test_what_can_not_be_read_is_named(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(name, tmp_path)


def test_a_missing_file_and_a_strange_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset data/tasks.jsonl: no such file or folder"):
        load("data/tasks.jsonl", tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"dataset folder: not a folder that .*save_to_disk"):
        load("folder", tmp_path)


def test_a_copy_reads_as_the_original(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"task": "x", "success_condition": "y"}\nbroken\n')
    rows = list(read_rows("t.jsonl", base=tmp_path))
    write_copy(iter(rows), tmp_path / "deep" / "copy.jsonl")
    assert list(read_copy(tmp_path / "deep" / "copy.jsonl")) == rows
