"""A thousand tasks through everything that a server can do wrong; and a kill in the middle."""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.models.inference import InferenceSummary, run_inference

from .chat_server import Answer, ChatServer, completion, error
from .test_inference import chat, lines, plan, tasks

WHOLE = completion()
FAULTS: list[tuple[float, Answer]] = [
    (0.030, error(429, "slow down")),
    (0.010, error(429, "slow down", retry_after="0")),
    (0.010, error(429, "slow down", retry_after_ms="80")),
    (0.020, error(500, "oops")),
    (0.010, Answer(502, "<html>bad gateway</html>", kind="text/html")),
    (0.015, error(503, "overloaded")),
    (0.005, error(503, "loading", retry_after="0.1")),
    (0.020, Answer(reset=True)),
    (0.015, replace(WHOLE, cut=True)),
    (0.015, Answer(body=WHOLE.body[:60])),
    (0.010, Answer(body='{"error": {"message": "upstream failed"}}')),
    (0.005, Answer(body='{"id": "x", "choices": []}')),
]
"""What passes, and the share of the requests that meet it: the request is made again.

None is for the client's clock to tell, which on a busy machine takes the innocent too.
"""
ENDINGS: list[tuple[float, Answer, str | None]] = [
    (0.030, completion(""), "the reply is empty"),
    (0.020, completion(None, finish="content_filter"), "the server's content filter"),
    (0.030, completion('{"command":"ls /hom', finish="length"), "cut off at max_tokens"),
    (0.020, completion("I'm sorry, I can't."), "the model declined"),
    (0.015, error(400, "this prompt is too long"), "this prompt is too long"),
    (0.020, replace(WHOLE, delay=0.5, drip=0.1, piece=100), None),  # slow, but it comes
    (0.865, WHOLE, None),
]
"""What stays: the share of the tasks, and what the record says of it where there is no command."""
CLOSINGS = (200, 500, 800)
"""After so many requests a window of the rate limit is used up, for a second."""


def number_of(request: dict[str, Any]) -> int:
    return int(request["messages"][0]["content"].split()[2])


class Storm:
    """A server on a bad day. Notes of each request whether it was the last that it called for."""

    refused_parameters = ("temperature", "max_tokens", "top_k")

    def __init__(self) -> None:
        self.chance = random.Random(5)
        self.given: dict[int, list[str]] = {}
        """By task: what each request met, in order."""
        self.ending: dict[int, str | None] = {}
        self.refused: Counter[str] = Counter()
        self.turned_away: Counter[int] = Counter()
        """By window of the rate limit."""
        self._closings = list(CLOSINGS)
        self._open_at = 0.0
        self._requests = 0

    def __call__(self, request: dict[str, Any]) -> Answer:
        for name in self.refused_parameters:
            if name in request:
                self.refused[name] += 1
                return error(400, f"Unsupported parameter: '{name}'", code="unsupported_parameter")
        self._requests += 1
        given = self.given.setdefault(number_of(request), [])
        if self._closings and self._requests > self._closings[0]:
            del self._closings[0]
            self._open_at = time.monotonic() + 1
        left = self._open_at - time.monotonic()
        if left > 0:
            given.append("fault")
            self.turned_away[len(self._closings)] += 1
            return error(429, "rate limit reached", retry_after=str(math.ceil(left)))
        dice = self.chance.random()
        for share, answer in FAULTS:
            dice -= share
            if dice < 0 and len(given) < 5:
                given.append("fault")
                return answer
        given.append("end")
        _, answer, self.ending[number_of(request)] = self.chance.choices(
            ENDINGS, [share for share, _, _ in ENDINGS]
        )[0]
        return answer


def test_a_thousand_tasks_through_a_storm(server: ChatServer, store: CommandStore) -> None:
    storm = Storm()
    server.answer = storm
    concurrency, count = 16, 1000
    params = {"temperature": 0.6, "top_k": 3, "max_tokens": 50}
    summary = InferenceSummary()
    model = chat(server, timeout=600.0, max_retries=9, backoff=0.02)  # a limit that nobody reaches
    run_inference(
        plan(store, tasks(count), model, params=params),
        store,
        concurrency=concurrency,
        summary=summary,
    )
    records = {int(record["task_id"][1:]): record for record in lines(store)}
    assert len(lines(store)) == len(records) == summary.asked == count
    # a request was made again where the server had failed it, and nowhere else
    for number, given in storm.given.items():
        assert given == ["fault"] * (len(given) - 1) + ["end"], number
        assert records[number]["attempts"] >= len(given)
    faults = sum(len(given) - 1 for given in storm.given.values())
    assert len(server.requests) == count + faults + storm.refused.total()
    assert sum(record["attempts"] for record in records.values()) == len(server.requests)
    # those that were out when it was learned that a parameter is refused, or that the limit is
    # reached, and not one more
    assert set(storm.refused) == set(storm.refused_parameters)
    assert max(storm.refused.values()) <= concurrency
    assert len(storm.turned_away) == len(CLOSINGS)
    assert max(storm.turned_away.values()) <= concurrency
    assert len(summary.warnings) == 3
    # and each ended as the last answer says
    for number, reason in storm.ending.items():
        record = records[number]
        if reason is None:
            assert (record["generated_command"], record.get("error")) == ("ls -l", None)
        else:
            assert record["generated_command"] is None
            assert reason in record["error"]
    assert summary.failed == sum(reason is not None for reason in storm.ending.values())


RUN = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from pytest_shelleval.core.commands import CommandStore
    from pytest_shelleval.core.tasks import Task
    from pytest_shelleval.models.inference import InferenceOptions, run_inference
    from pytest_shelleval.models.plan import plan_inference
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
    terms = InferenceOptions(on_record=lambda c: print("got", flush=True))
    run_inference(plan, store, concurrency=8, terms=terms)
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
