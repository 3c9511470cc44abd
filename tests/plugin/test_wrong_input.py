"""What a user can get wrong: one clear message, exit status 4, nothing spent, no traceback."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support import ROWS, Evaluation


def refused(evaluation: Evaluation, *args: str, dataset: str | None = "tasks.jsonl") -> str:
    done = evaluation.run(*args, dataset=dataset)
    text = done.stdout.str() + done.stderr.str()
    assert done.ret == 4, text
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    assert evaluation.lines("results.jsonl") == []
    return text


def test_a_missing_dataset(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    text = refused(evaluation, "--shelleval-model=mock", *mode, dataset="nope/tasks.jsonl")
    assert "ERROR: dataset nope/tasks.jsonl: no such file or folder" in text


@pytest.mark.every_mode
def test_broken_rows_are_all_named(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    path = evaluation.folder / "tasks.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n{broken\n" + json.dumps({"task": 1}) + "\n")
    text = refused(evaluation, "--shelleval-model=mock", *mode)
    assert "tasks.jsonl:2: not JSON" in text
    assert "tasks.jsonl:3: task: a string is expected, not a number" in text
    assert "tasks.jsonl:3: success_condition: missing" in text
    assert not evaluation.output.exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--shelleval-model is missing"),
        (["--shelleval-model=mock", "--shelleval-samples=many"], "--shelleval-samples: a whole"),
        (["--shelleval-model=mock", "--shelleval-prompt=nope.txt"], "nope.txt"),
        (["--shelleval-model=gpt-4o-mini"], "OPENAI_API_KEY"),
        (["--shelleval-phase=execution"], "commands.jsonl: no such file; run --shelleval-phase="),
    ],
)
def test_wrong_options(evaluation: Evaluation, args: list[str], message: str) -> None:
    assert message in refused(evaluation, *args)


def test_a_model_without_a_dataset(evaluation: Evaluation) -> None:
    text = refused(evaluation, "--shelleval-model=mock", dataset=None)
    assert "--shelleval-model does nothing without --shelleval-dataset" in text


def test_a_broken_commands_file(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    evaluation.output.mkdir()
    (evaluation.output / "commands.jsonl").write_text("{}\nbroken\n")
    text = refused(evaluation, "--shelleval-phase=execution", *mode)
    assert "commands.jsonl:2: not JSON" in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.jsonl", ""),
        ("t.jsonl", "\n \n"),
        ("t.json", "[]"),
        ("t.csv", "task,success_condition\n"),
    ],
)
def test_an_empty_dataset(
    evaluation: Evaluation, mode: tuple[str, ...], name: str, text: str
) -> None:
    (evaluation.folder / name).write_text(text)
    for more in ((), ("--shelleval-dataset=tasks.jsonl",), ("--collect-only",)):
        shown = refused(evaluation, "--shelleval-model=mock", *more, *mode, dataset=name)
        assert f"ERROR: dataset {name}: there are no rows in it" in shown
        assert not evaluation.output.exists()


@pytest.mark.every_mode
@pytest.mark.parametrize("dataset", [None, "tasks.jsonl"])
def test_an_empty_commands_file(
    evaluation: Evaluation, mode: tuple[str, ...], dataset: str | None
) -> None:
    evaluation.output.mkdir()
    file = evaluation.output / "commands.jsonl"
    file.touch()
    text = refused(evaluation, "--shelleval-phase=execution", *mode, dataset=dataset)
    assert f"ERROR: no commands found in {file}; run --shelleval-phase=inference first" in text


def test_commands_for_other_tasks(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    evaluation.run("--shelleval-model=oracle", "--shelleval-phase=inference")
    evaluation.rows({**ROWS[0], "task_id": "other", "task": "Other"})
    text = refused(evaluation, "--shelleval-phase=execution", *mode)
    assert "has no command for any of the 1 selected tasks" in text


def test_a_dead_server(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        text = refused(evaluation, "--shelleval-model=m", f"--shelleval-base-url={url}", *mode)
    assert url in text


def test_a_folder_that_can_not_be_written(evaluation: Evaluation) -> None:
    (evaluation.folder / "taken").write_text("")
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-output-dir=taken/x")
    text = done.stdout.str() + done.stderr.str()
    assert done.ret == 4
    assert "can't write" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("name", [".shelleval.lock", ".commands.jsonl.lock", "results.jsonl"])
def test_a_link_in_the_place_of_a_file_is_not_followed(evaluation: Evaluation, name: str) -> None:
    target = evaluation.folder / "target"
    target.write_text("")
    evaluation.output.mkdir()
    (evaluation.output / name).symlink_to(target)
    text = refused(evaluation, "--shelleval-model=oracle")
    assert f"can't write {evaluation.output}/{name}: it is a symbolic link; remove it" in text
    assert target.read_text() == ""


def test_links_in_the_place_of_files_that_are_replaced(evaluation: Evaluation) -> None:
    evaluation.output.mkdir()
    names = ["debug.log", "summary.json", "report.html"]
    for name in names:
        (evaluation.output / name).symlink_to(evaluation.folder / f"target-{name}")
    assert evaluation.run("--shelleval-model=oracle", "-n", "2").ret == 0
    assert not list(evaluation.folder.glob("target-*"))
    for name in names:
        assert not (evaluation.output / name).is_symlink()
        assert (evaluation.output / name).stat().st_size > 0


def test_links_that_the_user_made(evaluation: Evaluation) -> None:
    (evaluation.folder / "disk").mkdir()
    evaluation.output.symlink_to("disk")
    (evaluation.output / "commands.jsonl").symlink_to("../kept.jsonl")
    assert evaluation.run("--shelleval-model=oracle").ret == 0
    assert (evaluation.output / "commands.jsonl").is_symlink()
    assert len((evaluation.folder / "kept.jsonl").read_text().splitlines()) == len(ROWS)
    assert len(evaluation.lines("results.jsonl")) == len(ROWS)


def test_a_memory_limit_below_what_a_sandbox_needs(evaluation: Evaluation) -> None:
    limited = "--shelleval-memory=1M"
    text = refused(evaluation, "--shelleval-model=mock", "--shelleval-sandbox=local", limited)
    assert "--shelleval-memory=1048576 is less than a sandbox itself needs" in text
    assert "container" not in text
    assert evaluation.lines("commands.jsonl") == []
