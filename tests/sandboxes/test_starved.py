"""What fails while others take the processors is tried once more, in a quiet moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_users import make_provider

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.quiet import Turn, Turns
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.inside.starvation import starved
from pytest_shelleval.sandboxes.local.provider import LocalProvider
from tests.support import Crowd

# Needs little, but more than it gets among many: seconds of a processor, not of the clock.
WORK = "python3 -c 'import time\nwhile time.process_time() < 0.35: pass' && touch done"


class TellingTurns(Turns):
    """Says when somebody wants to be alone."""

    def __init__(self, folder: Path, told: Callable[[], None]) -> None:
        super().__init__(folder)
        self._told = told

    def take(self, *, alone: bool = False) -> Turn:
        if alone:
            self._told()
        return super().take(alone=alone)


def execution(
    source: Any, command: str, condition: str = "test -e done", **policy: Any
) -> Execution:
    task = Task(task_id="t", task="Do it", setup_commands=(), success_condition=condition)
    written = Command(
        task_id="t",
        task="Do it",
        setup_commands=[],
        success_condition=condition,
        generated_command=command,
        timestamp="2026-01-01T00:00:00Z",
    )
    policy.setdefault("command_timeout", 5)
    return Execution(task, written, source, ExecutionPolicy(**policy))


def outcome(one: Execution) -> Result:
    try:
        return one.run()
    finally:
        one.release()


@pytest.fixture
def provider() -> Iterator[Any]:
    made = make_provider("self", Limits())
    yield made
    made.close()


@pytest.fixture
def busy_until_alone(provider: LocalProvider, tmp_path: Path) -> Iterator[None]:
    """A crowd that is there until an execution wants to be alone."""
    crowd = Crowd()
    provider.turns = TellingTurns(tmp_path, crowd.disperse)
    yield
    crowd.disperse()


@pytest.mark.parametrize("step", ["command", "condition"])
def test_a_starved_step_is_tried_once_more(
    provider: LocalProvider, busy_until_alone: None, step: str
) -> None:
    texts = (WORK, "test -e done") if step == "command" else ("true", WORK)
    result = outcome(execution(provider, *texts, attempts=1))
    assert result.status == "passed"
    assert result.attempt == 2
    assert list(result.starved) == [step]
    assert result.starved[step] < 0.5
    assert "timed out, on a machine too busy to give it its share" in result.faults[0]


def test_the_second_attempt_counts(provider: LocalProvider, busy_until_alone: None) -> None:
    result = outcome(execution(provider, "while :; do :; done", command_timeout=2))
    assert (result.status, result.timed_out, result.attempt) == ("failed", True, 2)


@pytest.mark.parametrize(
    "command",
    [
        "sleep 100",
        "for _ in {1..9}; do nice -n 19 bash -c 'while :; do :; done' & done; wait",
        "taskset 1 bash -c 'for _ in {1..9}; do while :; do :; done & done; wait'",
    ],
)
def test_what_is_its_own_doing_is_not_tried_again(
    provider: LocalProvider, busy_until_alone: None, command: str
) -> None:
    result = outcome(execution(provider, command, command_timeout=3))
    assert (result.status, result.timed_out) == ("failed", True)
    assert (result.attempt, result.starved) == (1, {})


@pytest.mark.parametrize(
    ("wall", "ran", "others", "counted", "share"),
    [
        (10, 1.0, 19.0, (1.0, 9.0), 0.1),  # one loop among many
        (10, 1.0, 19.0, (0.5, 4.5), 0.1),  # half of it was seen
        (10, 6.0, 14.0, (6.0, 4.0), None),  # more than half
        (10, 19.5, 0.5, (19.5, 400.0), None),  # it waited for itself
        (10, 5.5, 14.5, (5.5, 400.0), None),  # the same, and others were there
        (10, 1.0, 0.2, (1.0, 9.0), None),  # nobody else was there
        (10, 0.01, 19.0, (0.01, 0.3), None),  # it slept
        (10, 0.0, 20.0, (0.0, 10.0), 0.0),  # it had nothing
        (0.5, 0.05, 0.95, (0.05, 0.45), None),  # too short to tell
    ],
)
def test_a_share(
    wall: float, ran: float, others: float, counted: tuple[float, float], share: float | None
) -> None:
    told = starved(wall, ran, others, counted)
    assert told == (None if share is None else pytest.approx(share))


def test_a_turn_alone_waits_for_the_others_and_they_for_it(tmp_path: Path) -> None:
    turns, other = Turns(tmp_path), Turns(tmp_path)
    one, two = turns.take(), other.take()
    entered: list[str] = []

    def alone() -> None:
        turn = turns.take(alone=True)
        entered.append("alone")
        last.start()
        assert not last_in.wait(0.5)
        turn.end()

    def enter() -> None:
        turn = other.take()
        entered.append("last")
        last_in.set()
        turn.end()

    last_in = threading.Event()
    last = threading.Thread(target=enter)
    waiting = threading.Thread(target=alone)
    waiting.start()
    assert not entered
    one.end()
    two.end()
    waiting.join()
    last.join()
    assert entered == ["alone", "last"]
