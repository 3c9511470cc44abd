"""Tokens, prices, the budget, and what a run would cost."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace
from typing import Any

import pytest

from pytest_shelleval.core.commands import Command, CommandStore
from pytest_shelleval.core.errors import InferenceAborted, InferencePaused, UserError
from pytest_shelleval.models.base import Reply, Request
from pytest_shelleval.models.inference import (
    InferenceOptions,
    InferenceSummary,
    infer,
    run_inference,
)
from pytest_shelleval.models.mock import MockModel
from pytest_shelleval.models.money import (
    Prices,
    estimate_tokens,
    forecast,
    longest_reply,
    most_tokens,
)

from .chat_server import Answer, ChatServer, completion, error
from .test_inference import chat, lines, plan, tasks

PRICES = Prices(1.0, 10.0)
"""A reply of the server's: 7 tokens in, 5 out."""
ONE = (7 * 1 + 5 * 10) / 1e6


def test_tokens_of_every_kind_and_the_cost_are_summed(
    server: ChatServer, store: CommandStore
) -> None:
    server.then = completion(
        usage={
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
    )
    terms = InferenceOptions(prices=PRICES)
    done = run_inference(plan(store, tasks(3), chat(server)), store, concurrency=2, terms=terms)
    assert done.usage == {
        "input_tokens": 21,
        "output_tokens": 15,
        "cached_tokens": 12,
        "reasoning_tokens": 6,
    }
    assert done.cost == pytest.approx(3 * ONE)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_budget_is_never_overrun_and_what_was_bought_stays(
    server: ChatServer, store: CommandStore, concurrency: int
) -> None:
    params = {"max_tokens": 100}
    summary = InferenceSummary()
    limit = 0.00112 + 10 * ONE
    with pytest.raises(InferencePaused, match=r"the budget is spent.*replies are kept"):
        run_inference(
            plan(store, tasks(100), chat(server), params=params),
            store,
            concurrency=concurrency,
            terms=InferenceOptions(prices=PRICES, max_cost=limit),
            summary=summary,
        )
    assert summary.cost is not None
    assert summary.cost <= limit
    assert 8 <= len(lines(store)) == len(server.requests) <= 12
    assert summary.cost == pytest.approx(len(server.requests) * ONE)


def test_failures_cost_nothing_and_replies_without_usage_their_estimate(
    server: ChatServer, store: CommandStore
) -> None:
    server.script = [error(400, "no"), completion(usage=None)]
    done = run_inference(
        plan(store, tasks(2), chat(server), params={"max_tokens": 10}),
        store,
        concurrency=1,
        terms=InferenceOptions(prices=PRICES, max_cost=1),
    )
    assert done.cost is not None
    assert 100 / 1e6 <= done.cost <= 250 / 1e6


class Seller:
    """A server that bills the longest reply, and tells of it wrongly; 64 at once, to begin with.

    The prompt is billed at what a tokenizer makes of it, at least: a token for every 4 bytes.
    """

    def __init__(self, server: ChatServer, *answers: Answer) -> None:
        self._server, self._answers = server, answers
        self._begun: dict[str, int] = {}
        self._crowd = server.gate = threading.Event()
        server.answer = self._answer

    @property
    def billed(self) -> float:
        tokens = [
            (sum(len(said["content"]) for said in request["messages"]) / 4, request["max_tokens"])
            for request in self._server.requests
        ]
        return sum(PRICES.input * read + PRICES.output * written for read, written in tokens) / 1e6

    def _answer(self, request: dict[str, Any]) -> Answer:
        if len(self._server.requests) == 64:
            self._crowd.set()
        asked = request["messages"][-1]["content"]
        number = self._begun[asked] = self._begun.get(asked, -1) + 1
        return self._answers[number % len(self._answers)]


def used(read: object, written: object, **more: object) -> Answer:
    """A reply of 100 tokens that tells something else."""
    reasoning = more.pop("reasoning", None)
    details = {} if reasoning is None else {"reasoning_tokens": reasoning}
    usage = {"prompt_tokens": read, "completion_tokens": written, **more}
    return completion(usage={**usage, "completion_tokens_details": details})


@pytest.mark.parametrize(
    "answers",
    {
        "none": [completion(usage=None)],
        "nonsense": [used("many", None)],
        "nothing": [used(0, 0, total_tokens=0)],
        "no output": [used(20, 0, total_tokens=20)],
        "no input": [used(0, 5, total_tokens=5)],
        "less than nothing": [used(20, -5)],
        "reasoning outside": [used(20, 12, reasoning=88, total_tokens=120)],
        "reasoning outside, without a total": [used(20, 12, reasoning=88)],
        "reasoning only in the total": [used(20, 60, total_tokens=120)],
        "less output than reasoning": [used(20, 1, reasoning=100, total_tokens=21)],
        "cut": [Answer(body=completion().body, cut=True)],
        "dropped": [Answer(reset=True)],
        "broken": [Answer(body='{"choices": [{')],
        "no choice": [Answer(body='{"choices": [], "usage": {}}')],
        "an error of status 200": [Answer(body='{"error": {"message": "upstream"}}')],
        "an error of a gateway": [error(504)],
        "two bad before a good one": [Answer(body="{"), error(500), used(20, 100)],
        "none in time": [Answer(delay=20)],
    }.items(),
    ids=lambda each: each[0],
)
def test_what_is_billed_keeps_to_the_limit_over_all_calls(
    server: ChatServer, store: CommandStore, answers: tuple[str, list[Answer]]
) -> None:
    seller = Seller(server, *answers[1])
    limit = 150 * 1100 / 1e6
    timeout = 1.0 if answers[0] == "none in time" else 60.0
    for _ in range(3):
        known = CommandStore(store.path)
        known.load()
        asked = plan(
            known,
            tasks(300),
            chat(server, timeout=timeout),
            params={"max_tokens": 100},
            refresh=True,
        )
        with contextlib.suppress(InferenceAborted):
            run_inference(
                asked, known, concurrency=64, terms=InferenceOptions(prices=PRICES, max_cost=limit)
            )
        known.close()
        assert 0 < seller.billed <= 1.1 * limit
    assert timeout < 60 or server.most_in_flight == 64


def test_what_a_server_reads_beside_the_prompt_is_reserved_after_the_first_reply(
    server: ChatServer, store: CommandStore
) -> None:
    server.then = used(5000, 1)
    with pytest.raises(InferencePaused):
        run_inference(
            plan(store, tasks(30), chat(server), params={"max_tokens": 1}),
            store,
            concurrency=1,
            terms=InferenceOptions(prices=PRICES, max_cost=0.0525),
        )
    assert len(server.requests) == 10


def test_earlier_calls_count(server: ChatServer, store: CommandStore) -> None:
    def more(count: int, max_cost: float | None) -> InferenceSummary:
        summary = InferenceSummary()
        known = CommandStore(store.path)
        known.load()
        # the rows differ, so that the lines are written anew; they were paid for once
        rows = [replace(task, difficulty_level=count) for task in tasks(count)]
        wanted = plan(known, rows, chat(server), MockModel(), params={"max_tokens": 10})
        terms = InferenceOptions(prices=PRICES, max_cost=max_cost)
        paused = pytest.raises(InferencePaused, match=rf"\({5 * ONE:.4f} by earlier calls\)")
        with contextlib.nullcontext() if max_cost is None else paused:
            run_inference(wanted, known, concurrency=1, terms=terms, summary=summary)
        known.close()
        return summary

    done = more(5, None)
    assert (len(server.requests), done.cost) == (5, pytest.approx(5 * ONE))
    done = more(10, 5 * ONE)
    assert (len(server.requests), done.cost) == (5, None)
    (job,) = plan(store, tasks(1), chat(server), params={"max_tokens": 10}).jobs
    done = more(10, 6 * ONE + PRICES.cost(most_tokens(job.messages, job.params)))
    assert (len(server.requests), done.cost) == (7, pytest.approx(2 * ONE))


def test_what_the_end_of_a_phase_cuts_off_counts_in_the_next_call(
    server: ChatServer, store: CommandStore
) -> None:
    server.gate = threading.Event()
    params = {"max_tokens": 100}
    terms = InferenceOptions(prices=PRICES, max_cost=0.1)

    async def cut_off() -> None:
        running = asyncio.ensure_future(
            infer(
                plan(store, tasks(8), chat(server), params=params),
                store,
                concurrency=8,
                terms=terms,
            )
        )
        while len(server.requests) < 8:
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(cut_off())
    server.gate.set()
    with pytest.raises(InferencePaused, match="by earlier calls"):
        run_inference(
            plan(store, tasks(8), chat(server), params=params),
            store,
            concurrency=8,
            terms=InferenceOptions(prices=PRICES, max_cost=8 * 1100 / 1e6),
        )
    assert len(server.requests) == 8


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 0, "output_tokens": 0}])
def test_a_line_of_an_earlier_version_without_usage_counts_at_the_most(
    server: ChatServer, store: CommandStore, usage: dict[str, int] | None
) -> None:
    params = {"max_tokens": 100}
    run_inference(plan(store, tasks(5), chat(server), params=params), store, concurrency=1)
    for record in lines(store):
        store.append(Command.from_record({**record, "usage": usage, "timestamp": ""}))
    with pytest.raises(InferencePaused, match="by earlier calls"):
        run_inference(
            plan(store, tasks(9), chat(server), params=params),
            store,
            concurrency=1,
            terms=InferenceOptions(prices=PRICES, max_cost=5 * (ONE + 1000 / 1e6) + 1000 / 1e6),
        )
    assert len(server.requests) == 5


def test_refusals_cost_nothing_however_often(server: ChatServer, store: CommandStore) -> None:
    server.script = [error(429, retry_after="0"), error(503, retry_after="0"), error(404)]
    summary = InferenceSummary()
    with pytest.raises(InferenceAborted):
        run_inference(
            plan(store, tasks(1), chat(server), params={"max_tokens": 10}),
            store,
            concurrency=1,
            terms=InferenceOptions(prices=PRICES, max_cost=0.0003),
            summary=summary,
        )
    assert (len(server.requests), summary.cost) == (3, 0)
    assert lines(store) == []


def test_a_model_of_ones_own_pays_for_each_attempt_that_it_tells(store: CommandStore) -> None:
    class Stubborn:
        name = "own"

        async def generate(self, request: Request) -> Reply:
            assert request.account is not None
            for _ in range(2):  # two are lost, then one is refused
                await request.account.reserve()
                request.account.sent()
            request.account.refund()
            await request.account.reserve()
            request.account.sent()
            return Reply("ls", "ls", usage={"input_tokens": 7, "output_tokens": 5}, attempts=4)

    wanted = plan(store, tasks(1), Stubborn(), params={"max_tokens": 10})
    most = PRICES.cost(most_tokens(wanted.jobs[0].messages, {"max_tokens": 10}))
    terms = InferenceOptions(prices=PRICES, max_cost=1)
    done = run_inference(wanted, store, concurrency=1, terms=terms)
    assert done.cost == pytest.approx(2 * most + ONE)


def test_without_a_limit_on_replies_there_is_none_on_the_cost(
    server: ChatServer, store: CommandStore
) -> None:
    terms = InferenceOptions(prices=PRICES, max_cost=1)
    wanted = plan(store, tasks(3), chat(server), params={"max_tokens": None})
    with pytest.raises(UserError, match="set --shelleval-max-tokens to a number"):
        run_inference(wanted, store, concurrency=2, terms=terms)
    assert server.requests == []
    server.answer = lambda request: next(
        (
            error(400, f"unsupported parameter: {name}")
            for name in ("max_tokens", "max_completion_tokens")
            if name in request
        ),
        completion(),
    )
    wanted = plan(store, tasks(3), chat(server), params={"max_tokens": 5})
    with pytest.raises(InferenceAborted, match="takes no limit on the tokens of a reply"):
        run_inference(wanted, store, concurrency=1, terms=terms)
    assert len(server.requests) == 2


def test_models_that_cost_nothing_need_no_budget(store: CommandStore) -> None:
    terms = InferenceOptions(prices=PRICES, max_cost=1e-9)
    done = run_inference(plan(store, tasks(9), MockModel()), store, concurrency=2, terms=terms)
    assert done.asked == 9


def test_a_forecast_asks_nothing(server: ChatServer, store: CommandStore) -> None:
    params = {"max_tokens": 100}
    run_inference(plan(store, tasks(2), chat(server), params=params), store, concurrency=1)
    wanted = plan(
        store, tasks(10), chat(server), chat(server, "n"), MockModel(), params=params, samples=2
    )
    by_model = forecast(wanted, PRICES)
    assert len(server.requests) == 2
    assert list(by_model) == ["m", "n"]
    known, unknown = by_model.values()
    assert (known.requests, known.cached) == (18, 2)
    assert (known.output_tokens, known.likely_output_tokens) == (1800, 90)
    assert 18 * 20 <= known.input_tokens <= 18 * 60
    assert known.cost == pytest.approx((known.input_tokens + 10 * 1800) / 1e6)
    assert known.likely_cost == pytest.approx((known.input_tokens + 10 * 90) / 1e6)
    assert (unknown.requests, unknown.cached) == (20, 0)
    assert (unknown.likely_output_tokens, unknown.likely_cost) == (None, None)
    both = known + unknown
    assert (both.requests, both.cached, both.output_tokens) == (38, 2, 3800)
    assert both.cost == pytest.approx((both.input_tokens + 10 * 3800) / 1e6)
    assert both.likely_cost is None
    half = forecast(wanted, PRICES, batched=lambda model: model.name == "n")
    assert half["n"].cost == pytest.approx((unknown.cost or 0) / 2)
    assert half["m"].cost == known.cost
    assert forecast(wanted, None)["m"].cost is None
    assert forecast(plan(store, tasks(1), MockModel()), PRICES) == {}


def test_estimates_are_rather_too_high() -> None:
    text = "List all files in /var/log that are larger than one megabyte, sorted by size."
    assert 18 <= estimate_tokens([{"role": "user", "content": text}]) <= 50
    assert longest_reply({"max_tokens": 5}) == 5
    assert longest_reply({"max_tokens": 5, "max_completion_tokens": 7}) == 7
    assert longest_reply({"max_tokens": None}) > 1000
