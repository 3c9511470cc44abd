"""What requests cost: estimates before, sums after, and a budget that is not overrun."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_shelleval.core.errors import InferencePaused
from pytest_shelleval.models.base import Message

if TYPE_CHECKING:
    from pytest_shelleval.models.inference import InferencePlan

_BYTES_PER_TOKEN = 3
"""English has 4 to 5; paths, code and other languages fewer. Better too dear than too cheap."""
_TOKENS_PER_MESSAGE = 8
_UNLIMITED_OUTPUT = 4096
"""Taken for the longest reply where max_tokens is none."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost, in US dollars."""

    input: float
    output: float

    def cost(self, usage: Mapping[str, int]) -> float:
        """The cost of *usage*. Cached tokens count as any others: discounts differ by vendor."""
        return (
            usage.get("input_tokens", 0) * self.input + usage.get("output_tokens", 0) * self.output
        ) / 1e6


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

    requests: int
    cached: int
    input_tokens: int
    output_tokens: int
    """At most."""
    likely_output_tokens: int | None
    """By the mean of the replies that are cached; None where there are none."""
    cost: float | None
    """At most; None without prices, 0 for models that cost nothing."""


def forecast(plan: InferencePlan, prices: Prices | None) -> Forecast:
    """What asking *plan* would take. Models that cost nothing need no request."""
    jobs = [job for job in plan.jobs if not getattr(job.model, "free", False)]
    usage = {
        "input_tokens": sum(estimate_tokens(job.messages) for job in jobs),
        "output_tokens": sum(longest_reply(job.params) for job in jobs),
    }
    before = [(command.usage or {}).get("output_tokens", 0) for command in plan.cached]
    return Forecast(
        requests=len(jobs),
        cached=len(plan.cached),
        likely_output_tokens=len(jobs) * sum(before) // len(before) if any(before) else None,
        cost=None if prices is None else prices.cost(usage),
        **usage,
    )
