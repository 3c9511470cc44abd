"""The examples do what their READMEs say."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documented import calls_of, shell_blocks
from tests.models.chat_server import ChatServer, completion
from tests.support import Evaluation

EXAMPLES = Path(__file__).parents[2] / "conftest_examples"


@pytest.fixture
def example(evaluation: Evaluation, request: pytest.FixtureRequest) -> Evaluation:
    """A copy of the example that the test is named after."""
    (evaluation.folder / "tasks.jsonl").unlink()
    name = request.node.originalname.removeprefix("test_")
    shutil.copytree(EXAMPLES / name, evaluation.folder, dirs_exist_ok=True)
    return evaluation


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "tasks.jsonl").read_text().splitlines()
    return {row["task"]: row for row in map(json.loads, lines)}


def knows(server: ChatServer, folder: Path) -> None:
    """Let *server* answer with the gold command of the task that a question ends with or holds."""
    known = rows(folder)

    def answer(request: dict[str, Any]) -> Any:
        question = request["messages"][-1]["content"]
        gold = next(row["gold_command"] for task, row in known.items() if task in question)
        return completion(json.dumps({"command": gold}))

    server.answer = answer


def test_every_example_has_a_readme_and_a_test() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert names <= {name.removeprefix("test_") for name in globals()}
    for name in names:
        lines = (EXAMPLES / name / "README.md").read_text().splitlines()
        assert lines[0].startswith("# ")
        assert len(lines) <= 50, f"{name}: more than a screenful"
        assert shell_blocks("\n".join(lines) + "\n"), f"{name}: nothing to type"


def test_quickstart(example: Evaluation) -> None:
    example.run("--shelleval-model=mock").assert_outcomes(passed=12)
    noop = example.run("--shelleval-model=noop", "-k", "text")
    noop.assert_outcomes(failed=3, deselected=9)


def test_own_model(example: Evaluation) -> None:
    done = example.run("--shelleval-model=table")
    done.assert_outcomes(passed=2, failed=1)
    assert example.statuses() == {"count": "passed", "answer": "passed", "archive": "failed"}


def test_local_server(example: Evaluation, chat_server: ChatServer) -> None:
    knows(chat_server, example.folder)
    ini = example.folder / "pytest.ini"
    ini.write_text(ini.read_text().replace("http://localhost:8080/v1", chat_server.url))
    example.run("--shelleval-model=local").assert_outcomes(passed=3)
    assert {request["model"] for request in chat_server.requests} == {"local"}


def test_own_prompt(example: Evaluation, chat_server: ChatServer) -> None:
    knows(chat_server, example.folder)
    done = example.run(
        "--shelleval-model=m",
        f"--shelleval-base-url={chat_server.url}",
        "--shelleval-prompt=prompt.txt",
        "--shelleval-system-prompt=system.txt",
    )
    done.assert_outcomes(passed=2)
    asked = {len(request["messages"]) for request in chat_server.requests}
    assert asked == {6}  # system, two worked examples, the question
    first = min(chat_server.requests, key=lambda request: str(request["messages"][-1]))
    assert first["messages"][0] == {
        "role": "system",
        "content": "You write bash for Debian with GNU coreutils. One command, no explanation.",
    }
    assert first["messages"][1:3] == [
        {"role": "user", "content": "Count the files in /tmp into n.txt"},
        {
            "role": "assistant",
            "content": '{"command": "find /tmp -maxdepth 1 -type f | wc -l > n.txt"}',
        },
    ]
    questions = {request["messages"][-1]["content"] for request in chat_server.requests}
    assert (
        "The current directory holds:\nnew.log\nold.log\n\nDelete the file old.log\n\n\n"
        'Answer with one line of JSON: {"command": "..."}'
    ) in questions


def test_own_scoring(example: Evaluation) -> None:
    example.run("--shelleval-model=half").assert_outcomes(passed=2, failed=1)
    scores = {line["task_id"]: line["score"] for line in example.lines("results.jsonl")}
    assert scores == {"sort-mail": 0.5, "inventory": 1.0, "plain": None}


def test_own_sandbox(example: Evaluation) -> None:
    example.run("--shelleval-model=oracle").assert_outcomes(passed=2)
    example.run("--shelleval-model=noop").assert_outcomes(failed=2)
    effects = {line["task_id"]: line["effects"] for line in example.lines("results.jsonl")}
    assert effects["deploy"]["created"] == []  # the preparation is nobody's doing


def test_sos_server(example: Evaluation) -> None:
    pytest.importorskip("uvicorn")
    example.run("--shelleval-model=oracle").assert_outcomes(passed=2)
    sandboxes = [line["sandbox"] for line in example.lines("results.jsonl")]
    assert {sandbox["kind"] for sandbox in sandboxes} == {"sos"}
    port = int(sandboxes[0]["url"].rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2)


def test_docker_image(example: Evaluation) -> None:
    done = example.run("--shelleval-model=oracle", "--collect-only")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["*sandbox docker*"])
    # the image is given what the tasks run; here the host has it, or the row is an error
    dockerfile = (example.folder / "Dockerfile").read_text()
    used = {row["gold_command"].split()[0] for row in rows(example.folder).values()}
    assert all(f" {program} " in dockerfile for program in used)
    local = example.run("--shelleval-model=oracle", "--shelleval-sandbox=local", "-k", "names")
    local.assert_outcomes(passed=1, deselected=1)


def test_with_unit_tests(example: Evaluation) -> None:
    example.run(dataset=None).assert_outcomes(passed=2)
    assert not example.output.exists()
    both = example.run("tests", dataset="evals/tasks.jsonl")
    both.assert_outcomes(passed=4)
    assert example.statuses() == {"create": "passed", "count": "passed"}
    example.run("tests", "-m", "not shelleval", dataset="evals/tasks.jsonl").assert_outcomes(
        passed=2, deselected=2
    )


def test_compare_models(example: Evaluation) -> None:
    done = example.run("--shelleval-model=mock", "--shelleval-model=oracle")
    done.assert_outcomes(passed=17, failed=3)
    by_model = example.summary()["by_model"]
    assert {name: figures["passed"] for name, figures in by_model.items()} == {
        "mock": 7,
        "oracle": 10,
    }
    for model, folder in (("mock", "a"), ("oracle", "b")):
        lines = [line for line in example.lines("results.jsonl") if line["model"] == model]
        place = example.folder / "runs" / folder / "results.jsonl"
        place.parent.mkdir(parents=True)
        place.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = subprocess.run(
        [sys.executable, "-m", "pytest_shelleval.cli.main", "compare", "runs/a", "runs/b"],
        cwd=example.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "fixed 3, still passing 7" in said
    assert "p = 0.250" in said


def test_from_generation_separated(example: Evaluation) -> None:
    done = example.run(
        "--shelleval-phase=execution",
        "--shelleval-commands-file=commands.jsonl",
        "--shelleval-output-dir=again",
        dataset=None,
    )
    done.assert_outcomes(passed=1, failed=1, errors=1)
    lines = (example.folder / "again" / "results.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line["status"] for line in found] == ["passed", "failed", "error"]
    summary = json.loads((example.folder / "again" / "summary.json").read_text())
    assert (summary["failed_samples"], summary["errored_samples"]) == (2, 1)


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_ci_gate(example: Evaluation, name: str) -> None:
    """The workflow's own scripts, with mock for the model, twice: the second has a baseline."""
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((example.folder / f"{name}.yml").read_text())
    if name == "github":
        steps = workflow["jobs"]["evaluate"]["steps"]
        scripts = [step["run"] for step in steps if "run" in step]
        assert any("kernel.apparmor_restrict_unprivileged_userns=0" in text for text in scripts)
        cached = [step["with"] for step in steps if "actions/cache/" in step.get("uses", "")]
        assert "evaluation_results/commands.jsonl" in {cache["path"] for cache in cached}
    else:
        scripts = workflow["shelleval"]["script"]
        cached = workflow["shelleval"]["cache"]
        assert ["evaluation_results/commands.jsonl"] in [cache["paths"] for cache in cached]
    variables = {"CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main", "MODEL": "mock"}
    pytest_command = shlex.join(example.command(dataset=None))
    for run in (1, 2) if name == "github" else (1,):
        calls = calls_of(
            "\n".join(scripts),
            example.folder,
            really={"pytest": f'exec {pytest_command} "$@" -n 0 > said'},
            environment=variables,
        )
        assert [call.program for call in calls if call.program != "sudo"] == [
            *("pip", "shelleval", "pytest")
        ]
        said = (example.folder / "said").read_text()
        assert "gate passed: pass rate 80.0 %" in said
        assert ("--shelleval-fail-on=significant-regression" in said) == (run == 2)
        assert "4 passed" in said
    assert (example.folder / "junit.xml").exists()
    assert (example.folder / "baseline" / "results.jsonl").exists()
