"""What requests cost: estimates before, sums after, and a budget that is not overrun."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_shelleval.core.errors import InferencePaused
from pytest_shelleval.models.base import Message, Model

if TYPE_CHECKING:
    from pytest_shelleval.models.plan import InferencePlan
    from pytest_shelleval.models.records import Job

_Number = TypeVar("_Number", int, float)

_BYTES_PER_TOKEN = 3
"""English has 4 to 5; paths, code and other languages fewer. Better too dear than too cheap."""
_TOKENS_PER_MESSAGE = 8
_UNLIMITED_OUTPUT = 4096
"""Taken for the longest reply where max_tokens is none."""


BATCH_FACTOR = 0.5
"""What tokens cost through the Batch API, as a part of the ordinary price: OpenAI's documentation of
it promises "50% lower costs", for input and output alike."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost, in US dollars."""

    input: float
    output: float

    def cost(self, usage: Mapping[str, int], *, batch: bool = False) -> float:
        """The cost of *usage*, bought one by one or in a *batch*.

        Cached tokens count as any others: discounts differ by vendor.
        """
        full = (
            usage.get("input_tokens", 0) * self.input + usage.get("output_tokens", 0) * self.output
        )
        return full * (BATCH_FACTOR if batch else 1.0) / 1e6


def estimate_tokens(messages: Sequence[Message]) -> int:
    """About how many tokens *messages* are, rather too many than too few."""
    return sum(
        _TOKENS_PER_MESSAGE + -(-len(message["content"].encode()) // _BYTES_PER_TOKEN)
        for message in messages
    )


def longest_reply(params: Mapping[str, Any]) -> int:
    """The most tokens that a reply can have."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = params.get(name)
        if isinstance(limit, int):
            return limit
    return _UNLIMITED_OUTPUT


class Budget:
    """Lets a request go only if even the longest reply to it, and to all in flight, can be paid.

    *max_cost* None: no bound, and the sum is kept all the same.
    """

    def __init__(self, prices: Prices, max_cost: float | None) -> None:
        self.prices = prices
        self.spent = 0.0
        self._max_cost = max_cost
        self._reserved = 0.0
        self._in_flight = 0
        self._changed = asyncio.Event()

    async def reserve(self, messages: Sequence[Message], params: Mapping[str, Any]) -> float:
        """Wait until one more request can be paid. Returns what :meth:`settle` gives back.

        Raises InferencePaused when it can't, also when all in flight have come cheap.
        """
        price = self.estimate(messages, params)
        while self._max_cost is not None and self.spent + self._reserved + price > self._max_cost:
            if not self._in_flight:
                raise InferencePaused(
                    f"the budget is spent: {self.spent:.4f} of --shelleval-max-cost="
                    f"{self._max_cost:g}, and the next request may cost {price:.4f}; raise it to go on"
                )
            self._changed.clear()
            await self._changed.wait()
        self._reserved += price
        self._in_flight += 1
        return price

    def settle(
        self, reserved: float, usage: Mapping[str, int] | None, *, unknown: bool = False
    ) -> None:
        """A request ended with *usage*. *unknown*: a reply came and nobody said what it used."""
        self._reserved -= reserved
        self._in_flight -= 1
        self.spent += self.prices.cost(usage) if usage else reserved if unknown else 0.0
        self._changed.set()

    def estimate(self, messages: Sequence[Message], params: Mapping[str, Any]) -> float:
        """The most that one request can cost."""
        return self.prices.cost(
            {"input_tokens": estimate_tokens(messages), "output_tokens": longest_reply(params)}
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would ask."""

    requests: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    """At most."""
    likely_output_tokens: int | None = 0
    """By the mean of the model's replies that are cached; None where there are none."""
    cost: float | None = None
    """At most; None without prices."""
    likely_cost: float | None = None
    """With the likely output."""

    def __add__(self, other: Forecast) -> Forecast:
        """Both together: what is not known of one is not known of the sum."""
        return Forecast(
            self.requests + other.requests,
            self.cached + other.cached,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            _sum(self.likely_output_tokens, other.likely_output_tokens),
            _sum(self.cost, other.cost),
            _sum(self.likely_cost, other.likely_cost),
        )


def forecast(
    plan: InferencePlan, prices: Prices | None, *, batched: Callable[[Model], bool] | None = None
) -> dict[str, Forecast]:
    """What asking *plan* would take, by the names of its models; those that cost nothing are left out.

    *batched* says of a model whether it is asked through the Batch API.
    """
    jobs: dict[str, list[Job]] = {}
    lengths = plan.known
    for job in plan.jobs:
        if not getattr(job.model, "free", False):
            jobs.setdefault(job.model.name, []).append(job)
    return {
        name: _forecast_of(
            jobs.get(name, []),
            lengths.get(name, []),
            prices,
            batch=batched is not None and name in jobs and batched(jobs[name][0].model),
        )
        for name in sorted({*jobs, *lengths})
    }


def _forecast_of(
    jobs: Sequence[Job], lengths: Sequence[int], prices: Prices | None, *, batch: bool
) -> Forecast:
    """For one model: *lengths* are the output tokens of the replies that it has given before."""
    asked = sum(estimate_tokens(job.messages) for job in jobs)
    most = sum(longest_reply(job.params) for job in jobs)
    likely = None
    if not jobs:
        likely = 0
    elif any(lengths):
        likely = min(most, len(jobs) * sum(lengths) // len(lengths))

    def cost(output: int | None) -> float | None:
        if prices is None or output is None:
            return None
        return prices.cost({"input_tokens": asked, "output_tokens": output}, batch=batch)

    return Forecast(len(jobs), len(lengths), asked, most, likely, cost(most), cost(likely))


def _sum(one: _Number | None, other: _Number | None) -> _Number | None:
    return None if one is None or other is None else one + other
