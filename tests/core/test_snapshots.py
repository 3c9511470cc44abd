"""Setups paid for once: when, and shared by whom."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.execution import Execution, ExecutionPolicy, SetupFailed
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import ExecResult
from pytest_shelleval.core.snapshots import Kept, Snapshots, key_of, repeatable
from pytest_shelleval.core.tasks import Task
from tests.core.fakes import canary_answer

KEPT = Kept("said", False, b"state")


@dataclass
class Source:
    """A provider whose sandboxes note what they are asked."""

    snapshots: Snapshots | None = field(default_factory=Snapshots)
    setup: ExecResult = field(default_factory=lambda: ExecResult("said", 0, duration=1.0))
    state: bytes | None = b"state"
    restorable: bool = True
    asked: list[str] = field(default_factory=list)

    def acquire(self) -> Any:
        return FakeSandbox(self)


class FakeSandbox:
    def __init__(self, source: Source) -> None:
        self.source, self.id, self.info = source, "fake", {"kind": "fake", "id": "fake"}

    def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
        sound = canary_answer(text)
        if sound is not None:
            return sound
        if text != "CHECK":
            self.source.asked.append("setup")
            return self.source.setup
        return ExecResult("", 0)

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        return ExecResult("", 0)

    def session_directory(self) -> str:
        return "/"

    def snapshot(self) -> bytes | None:
        self.source.asked.append("snapshot")
        return self.source.state

    def restore(self, snapshot: bytes) -> None:
        self.source.asked.append("restore")
        if not self.source.restorable:
            raise SandboxError("no")
        assert snapshot == b"state"

    def close(self) -> None:
        pass


def run(source: Source, command: str = "COMMAND", **fields: Any) -> Result:
    task = Task(
        task_id="t", task="x", setup_commands=("make",), success_condition="CHECK", **fields
    )
    generated = Command(
        task_id="t",
        task="x",
        setup_commands=[],
        success_condition="CHECK",
        generated_command=command,
        timestamp="",
    )
    return Execution(task, generated, source, ExecutionPolicy()).run()


def test_the_second_task_is_restored() -> None:
    source = Source()
    first, second = run(source), run(source)
    assert source.asked == ["setup", "snapshot", "restore"]
    assert first.setup_output == second.setup_output == "said"
    assert "snapshot" not in first.sandbox
    assert second.sandbox["snapshot"] is True
    assert second.overall_success


@pytest.mark.parametrize(
    "source",
    [
        Source(snapshots=None),
        Source(setup=ExecResult("", 0, duration=0.01)),
        Source(setup=ExecResult("", 0, limit="disk", duration=1)),
        Source(setup=ExecResult("", 1, duration=1)),
        Source(setup=ExecResult("", None, timed_out=True, duration=1)),
    ],
    ids=["off", "short", "limit", "failed", "timed out"],
)
def test_some_setups_are_always_run(source: Source) -> None:
    for _ in range(2):
        with contextlib.suppress(SetupFailed):
            run(source)
    assert source.asked == ["setup", "setup"]


def test_what_can_not_be_caught_is_tried_once() -> None:
    source = Source(state=None)
    run(source)
    run(source)
    assert source.asked == ["setup", "snapshot", "setup"]


def test_a_restoration_that_fails_is_followed_by_the_setup() -> None:
    source = Source()
    run(source)
    source.restorable = False
    assert run(source).overall_success
    assert source.asked == ["setup", "snapshot", "restore", "setup"]
    run(source)
    assert source.asked[4:] == ["setup"]


def test_shared_steps_run_their_setup() -> None:
    source = Source()
    run(source, steps="shared")
    run(source, steps="shared")
    assert source.asked == []


@pytest.mark.parametrize(
    "text",
    [
        "find . -mmin -5",
        "touch -d '1 hour ago' x",
        "date > now",
        "stat -c %Y f",
        "printf '%(%s)T'",
        "echo 1 > /proc/sys/net/x",
        "echo $EPOCHSECONDS",
        "find . -newer f",
    ],
)
def test_texts_that_look_at_the_time(text: str) -> None:
    assert not repeatable(("echo", text))
    source = Source()
    run(source)
    run(source, text)
    assert source.asked == ["setup", "snapshot", "setup"]


def test_texts_that_do_not() -> None:
    assert repeatable(("mkdir -p update && cp a b", "stat -c %a x", "tar -xf timed.tar"))


def test_keys_differ_by_image_alone() -> None:
    one = key_of("a", {"kind": "local", "rootfs": "host", "id": "1"})
    assert one == key_of("a", {"kind": "local", "rootfs": "host", "id": "2"})
    assert one != key_of("a", {"kind": "local", "rootfs": "/other", "id": "1"})
    assert one != key_of("b", {"kind": "local", "rootfs": "host", "id": "1"})


def test_processes_of_a_run_share_and_wait(tmp_path: Path) -> None:
    one, other = Snapshots(tmp_path), Snapshots(tmp_path)
    seen: list[Kept | None] = []

    def second() -> None:
        with other.entry("k") as entry:
            seen.append(entry.kept)

    with one.entry("k") as entry:
        assert entry.wanted
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.1)
        assert seen == []
        entry.keep(KEPT)
    waiting.join(10)
    assert seen == [KEPT]


def test_setups_not_kept_are_not_waited_for(tmp_path: Path) -> None:
    one, other = Snapshots(tmp_path), Snapshots(tmp_path)
    with one.entry("k") as entry:
        entry.keep(None)
    with other.entry("k") as first, one.entry("k") as second:
        assert (first.wanted, second.wanted) == (False, False)


def test_a_broken_file_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"broken")
    with Snapshots(tmp_path).entry("k") as entry:
        assert entry.wanted


def test_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_shelleval.core.snapshots._MOST_KEPT", 7)
    store = Snapshots()
    for key, kept in (("a", KEPT), ("b", None)):
        store.set(key, KEPT)
        with store.entry(key) as entry:
            assert entry.kept == kept
