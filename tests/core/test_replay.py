"""When two executions come to the same, and what is replayed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.execution import ExecutionPolicy
from pytest_shelleval.core.replay import ExecutionKeys, Replay
from pytest_shelleval.core.results import Result, empty_command
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import Limits, SandboxSpec
from pytest_shelleval.sandboxes.registry import identity

TASK = Task("t", "Do it", ("seq 3 > a",), "test -e b", timeout=5)
COMMAND = replace(empty_command(TASK, "m", 0), generated_command="cp a b")
SPEC = SandboxSpec("local", Limits(), "image")


def key(
    policy: ExecutionPolicy | None = None,
    sandbox_spec: SandboxSpec = SPEC,
    task: Task = TASK,
    **command: Any,
) -> str:
    keys = ExecutionKeys(policy or ExecutionPolicy(), identity(sandbox_spec))
    return keys.of(task, replace(COMMAND, **command))


def test_what_decides_the_verdict_makes_another_key() -> None:
    keys = [
        key(),
        key(generated_command="cp -v a b"),
        key(task=replace(TASK, setup_commands=("seq 3 > a", "true"))),
        key(task=replace(TASK, success_condition="true")),
        key(task=replace(TASK, steps="shared")),
        key(task=replace(TASK, timeout=6)),
        key(ExecutionPolicy(command_timeout=7)),  # the condition's
        key(ExecutionPolicy(setup_timeout=7)),
        key(ExecutionPolicy(strict_setup=True)),
        key(sandbox_spec=replace(SPEC, rootfs=Path("/image.tar"))),
        key(sandbox_spec=replace(SPEC, limits=Limits(memory=1 << 20))),
        key(sandbox_spec=replace(SPEC, kind="docker")),
        key(sandbox_spec=replace(SPEC, kind="docker", image="other")),
        key(sandbox_spec=replace(SPEC, kind="docker", network=True)),
        key(sandbox_spec=replace(SPEC, kind="sos")),
        key(generated_command=None),
        key(generated_command=None, raw_response="I can't"),
    ]
    assert len(set(keys)) == len(keys)


def test_what_does_not_decide_the_verdict_makes_the_same_key() -> None:
    same = [
        key(ExecutionPolicy(attempts=9)),
        key(ExecutionPolicy(steps="shared"), task=replace(TASK, steps="separate")),
        key(sandbox_spec=replace(SPEC, pool_size=7, workers=8, state_directory=Path("/tmp/x"))),
        key(sandbox_spec=replace(SPEC, image="of docker only")),
        key(task=replace(TASK, task_id="u", task="Do it, please", tags=("a",))),
        key(model="n", sample=3, timestamp="now", raw_response="cp a b"),
    ]
    assert set(same) == {key()}


def test_a_result_is_read_from_where_it_stands(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    found = Result.of(TASK, COMMAND)
    found.command_output = "\udc80 half"
    first = json.dumps({"task_id": "s"}) + "\n"
    results.write_text(first + json.dumps(found.to_record()) + "\n")
    Replay(results, {"tasks.jsonl::t": len(first)}).save(tmp_path / "replay.json")
    replay = Replay.load(tmp_path / "replay.json")
    assert replay.result("tasks.jsonl::s") is None
    again = replay.result("tasks.jsonl::t")
    assert again is not None
    assert again.to_record() == found.to_record()
    assert Replay.load(tmp_path / "nothing.json").result("tasks.jsonl::t") is None


def test_a_result_that_is_not_there_is_said(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    results.write_text("{}\n{")
    with pytest.raises(UserError, match=r"can't read .*results\.jsonl"):
        Replay(results, {"x": 3}).result("x")
