"""A thousand tasks through everything that a server can do wrong; and a kill in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.models.inference import InferenceSummary, run_inference

from .chat_server import Answer, ChatServer, completion, error
from .test_inference import chat, lines, plan, tasks

TROUBLE: list[Answer] = [
    error(429, "slow down"),
    error(429, "slow down", retry_after="0"),
    error(500, "oops"),
    error(503, "loading"),
    Answer(reset=True),
    Answer(body='{"id": "x", "choices": [{"mess'),
    Answer(status=502, body="<html>bad gateway</html>", kind="text/html"),
]
"""What passes: the request is made again."""
ENDINGS: list[Answer] = [
    completion(""),
    completion('{"command":"ls /hom', finish="length"),
    completion("I'm sorry, I can't."),
    error(400, "this prompt is too long"),
]
"""What stays: the record says why there is no command."""


def number_of(request: dict[str, Any]) -> int:
    return int(request["messages"][0]["content"].split()[2])


class Storm:
    """Every fifth task meets trouble once or twice, every seventh ends without a command."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.refused = 0

    def __call__(self, request: dict[str, Any]) -> Answer:
        for name in ("temperature", "top_k"):
            if name in request:
                self.refused += 1
                return error(400, f"Unsupported parameter: '{name}'", code="unsupported_parameter")
        number = number_of(request)
        self.asked[number] += 1
        if self.asked[number] <= self.troubles(number):
            if number % 200 == 0:
                return Answer(delay=60)
            return TROUBLE[(number // 5 + self.asked[number]) % len(TROUBLE)]
        return ENDINGS[number // 7 % len(ENDINGS)] if number % 7 == 0 else completion()

    @staticmethod
    def troubles(number: int) -> int:
        return 0 if number % 5 else 1 + number % 2


def test_a_thousand_tasks_through_a_storm(server: ChatServer, store: CommandStore) -> None:
    storm = Storm()
    server.answer = storm
    concurrency, count = 16, 1000
    params = {"temperature": 0.6, "top_k": 3, "max_tokens": 50}
    summary = InferenceSummary()
    # room for a busy machine; the five tasks with slow answers take as long
    model = chat(server, timeout=6.0, max_retries=8)
    run_inference(
        plan(store, tasks(count), model, params=params),
        store,
        concurrency=concurrency,
        summary=summary,
    )
    records = lines(store)
    assert len(records) == summary.asked == count
    assert len({record["task_id"] for record in records}) == count
    without = [number for number in range(count) if number % 7 == 0]
    assert summary.failed == len(without)
    assert (
        sorted(
            int(record["task_id"][1:]) for record in records if record["generated_command"] is None
        )
        == without
    )
    assert all(record["error"] for record in records if record["generated_command"] is None)
    # not one request more than the troubles took, but for those that were out when it was learned
    # that a parameter is refused
    needed = {number: 1 + storm.troubles(number) for number in range(count)}
    assert {n: storm.asked[n] for n in needed if storm.asked[n] != needed[n]} == {}
    assert storm.refused <= 2 * concurrency
    assert len(summary.warnings) == 2
    assert sum(record["attempts"] for record in records) == len(server.requests)


RUN = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from pytest_shelleval.core.commands import CommandStore
    from pytest_shelleval.core.tasks import Task
    from pytest_shelleval.models.inference import plan_inference, run_inference
    from pytest_shelleval.models.prompt import PromptTemplate
    from pytest_shelleval.models.registry import build_model

    store = CommandStore(Path(sys.argv[1]))
    store.load()
    tasks = [Task(f"t{n}", f"Do thing {n}", (), "true") for n in range(200)]
    model = build_model("m", base_url=sys.argv[2])
    plan = plan_inference(
        [(task, model, 0) for task in tasks],
        prompts=PromptTemplate().render, params={}, store=store,
    )
    run_inference(plan, store, concurrency=8, on_record=lambda c: print("got", flush=True))
    """
)


@pytest.mark.parametrize("arrived", [1, 60])
def test_what_had_arrived_before_a_kill_is_not_bought_twice(
    server: ChatServer, tmp_path: Path, arrived: int
) -> None:
    path = tmp_path / "commands.jsonl"
    arguments = [sys.executable, "-c", RUN, str(path), server.url]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(arrived):
        assert process.stdout.readline() == "got\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = {
        json.loads(line)["task_id"] for line in path.read_text().splitlines() if line.endswith("}")
    }
    assert len(kept) >= arrived
    before = Counter(map(number_of, server.requests))
    server.requests.clear()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, timeout=120)
    again = Counter(map(number_of, server.requests))
    assert not {f"t{number}" for number in again} & kept
    assert set(before) | set(again) == set(range(200))
    found = [json.loads(line)["task_id"] for line in path.read_text().splitlines()]
    assert sorted(found) == sorted(f"t{number}" for number in range(200))
    # only what was in flight when it died was asked twice
    assert sum((before + again).values()) <= 200 + 8
    assert threading.active_count() < 100
