"""Execution without pytest."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import pytest_shelleval
from pytest_shelleval import Result, Sandbox, Task, evaluate
from pytest_shelleval.core.errors import SandboxUnavailable

ROOT = Path(__file__).parents[2]


def task(number: int) -> Task:
    return Task(f"t{number}", "write the number", (f"echo {number} > n",), f"grep -x {number} out")


def test_results_come_in_the_order_of_the_pairs() -> None:
    commands = ["cp n out", "sleep 0.3; cp n out", "false", None, "cp n out"]
    results = list(evaluate([(task(n), text) for n, text in enumerate(commands)]))
    assert [result.command.task_id for result in results] == ["t0", "t1", "t2", "t3", "t4"]
    assert [result.status for result in results] == [
        "passed", "passed", "failed", "failed", "passed",
    ]  # fmt: skip
    assert results[3].error == "the model gave no command"


def test_pairs_are_read_as_they_are_needed() -> None:
    read = 0

    def pairs() -> Iterator[tuple[Task, str]]:
        nonlocal read
        while True:
            read += 1
            yield task(read), "cp n out"

    results = evaluate(pairs(), max_workers=2)
    assert [next(results).command.task_id for _ in range(3)] == ["t1", "t2", "t3"]
    results.close()  # type: ignore[attr-defined]
    assert 3 <= read < 20


def test_a_score_of_ones_own() -> None:
    def score(result: Result, sandbox: Sandbox) -> float:
        return 0.5 if "half" in sandbox.exec("cat out", timeout=10).output else 1.0

    pairs = [(Task("t", "x", (), "false"), f"echo {text} > out") for text in ("half", "whole")]
    results = list(evaluate(pairs, score=score))
    assert [(result.score, result.status) for result in results] == [(0.5, "failed"), (1, "passed")]
    with ProcessPoolExecutor(1) as executor, pytest.raises(ValueError, match="leave it out"):
        evaluate(pairs, score=score, executor=executor)


def test_in_other_processes() -> None:
    pairs = [(task(n), "cp n out") for n in range(6)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        results = list(evaluate(pairs, executor=executor, max_workers=2))
    assert [result.status for result in results] == ["passed"] * 6
    assert pickle.loads(pickle.dumps(results[0])) == results[0]


def test_no_sandbox_is_told_before_anything_is_run() -> None:
    with pytest.raises(SandboxUnavailable, match="no sandbox is named moon"):
        evaluate([(task(1), "true")], sandbox="moon")
    assert pytest_shelleval.evaluate is evaluate


def blocks(language: str) -> list[str]:
    text = (ROOT / "docs" / "without-pytest.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_notebook_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks("python")[0], {})
    assert capsys.readouterr().out == blocks("text")[0]


def test_the_reward_of_the_documentation() -> None:
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
    rewards = names["shell_reward"](
        completions=[
            '{"command": "cp a b"}',
            [{"role": "assistant", "content": "```bash\nmv a b\n```"}],
            "I can't do that.",
            "cp a b",
        ],
        task=["Copy a to b"] * 4,
        setup_commands=[["echo 1 > a"]] * 3 + [["exit 3"]],
        success_condition=["cmp a b"] * 4,
        difficulty=[1, 2, 3, 4],
    )
    assert rewards == [1.0, 0.0, 0.0, None]
