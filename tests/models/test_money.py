"""Tokens, prices, the budget, and what a run would cost."""

from __future__ import annotations

import pytest

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.core.errors import InferencePaused
from pytest_shelleval.models.inference import InferenceSummary, Terms, run_inference
from pytest_shelleval.models.mock import MockModel
from pytest_shelleval.models.money import Prices, estimate_tokens, forecast, longest_reply

from .chat_server import ChatServer, completion, error
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
    terms = Terms(prices=PRICES)
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
    with pytest.raises(InferencePaused, match=r"the budget is spent.*what came is kept"):
        run_inference(
            plan(store, tasks(100), chat(server), params=params),
            store,
            concurrency=concurrency,
            terms=Terms(prices=PRICES, max_cost=limit),
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
        terms=Terms(prices=PRICES, max_cost=1),
    )
    assert done.cost is not None
    assert 100 / 1e6 <= done.cost <= 250 / 1e6


def test_models_that_cost_nothing_need_no_budget(store: CommandStore) -> None:
    terms = Terms(prices=PRICES, max_cost=1e-9)
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
