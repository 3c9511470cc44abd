"""The cost of requests: estimates before, sums after, and a budget that is never exceeded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_shelleval.core.commands import Command, CommandStore
from pytest_shelleval.core.errors import InferencePaused, UserError
from pytest_shelleval.models.base import Message, Model
from pytest_shelleval.models.registry import BUILT_IN

if TYPE_CHECKING:
    from pytest_shelleval.models.plan import InferencePlan
    from pytest_shelleval.models.records import Job

_Number = TypeVar("_Number", int, float)

_BYTES_PER_TOKEN = 3
"""English has 4 to 5; paths, code and other languages fewer. Rather too high than too low."""
_TOKENS_PER_MESSAGE = 8
_UNLIMITED_OUTPUT = 4096
"""Tokens: the assumed longest reply if max_tokens is not set."""
UNACCOUNTED = "unaccounted_usage"
"""Field of a record: the most tokens that attempts without a plausible usage can have used."""


BATCH_FACTOR = 0.5
"""The price of tokens through the Batch API, as a fraction of the ordinary price: OpenAI's
documentation of it promises "50% lower costs", for input and output alike."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens, in US dollars."""

    input: float
    output: float

    def cost(self, usage: Mapping[str, int], *, batch: bool = False) -> float:
        """The cost of *usage*, bought one by one or in a *batch*.

        Cached tokens cost the full price: discounts differ by vendor.
        """
        full = (
            usage.get("input_tokens", 0) * self.input + usage.get("output_tokens", 0) * self.output
        )
        return full * (BATCH_FACTOR if batch else 1.0) / 1e6


def estimate_tokens(messages: Sequence[Message]) -> int:
    """An estimate of the tokens in *messages*, rather too high than too low."""
    return sum(
        _TOKENS_PER_MESSAGE + -(-len(message["content"].encode()) // _BYTES_PER_TOKEN)
        for message in messages
    )


def reply_limit(params: Mapping[str, Any]) -> int | None:
    """The limit that *params* set on the tokens of a reply; None if there is none."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = params.get(name)
        if isinstance(limit, int):
            return limit
    return None


def longest_reply(params: Mapping[str, Any]) -> int:
    """The most tokens that a reply can have."""
    limit = reply_limit(params)
    return _UNLIMITED_OUTPUT if limit is None else limit


def most_tokens(messages: Sequence[Message], params: Mapping[str, Any]) -> dict[str, int]:
    """The usage of one request with the longest possible reply."""
    return {"input_tokens": estimate_tokens(messages), "output_tokens": longest_reply(params)}


def check_limited(params: Mapping[str, Any]) -> None:
    """Check that *params* limit the reply, as ``max_cost`` requires. Raises UserError."""
    if reply_limit(params) is None:
        raise UserError(
            "--shelleval-max-cost needs a limit on the tokens of a reply, as a reply may cost any "
            "amount without one: set --shelleval-max-tokens to a number"
        )


def is_plausible(usage: object) -> bool:
    """Whether *usage* is plausible for a reply: some input, some output, which includes reasoning."""
    if not isinstance(usage, Mapping):
        return False
    read, written, reasoning = (
        usage.get(kind) or 0 for kind in ("input_tokens", "output_tokens", "reasoning_tokens")
    )
    if not all(isinstance(count, int) for count in (read, written, reasoning)):
        return False
    return bool(read > 0 and written >= max(1, reasoning))


class Budget:
    """Allows a request only if the budget covers the longest replies to it and to all in flight.

    *max_cost* None: no limit, but the sum is still kept. *earlier* is the cost of earlier calls: it
    counts against the limit.
    """

    def __init__(self, prices: Prices, max_cost: float | None, earlier: float = 0.0) -> None:
        self.prices = prices
        self.spent = 0.0
        """By this call."""
        self.max_cost = max_cost
        self._earlier = earlier
        self._reserved = 0.0
        self._in_flight = 0
        self._hidden_input = 0
        self._changed = asyncio.Event()

    async def reserve(self, most: Mapping[str, int]) -> dict[str, int]:
        """Wait until the budget allows one more request. Returns the usage for :meth:`settle`.

        Raises InferencePaused if it does not allow one even after all requests in flight have ended.
        """
        while True:
            reserved = {**most, "input_tokens": most["input_tokens"] + self._hidden_input}
            price = self.prices.cost(reserved)
            spent = self._earlier + self.spent
            if self.max_cost is None or spent + self._reserved + price <= self.max_cost:
                break
            if not self._in_flight:
                before = f" ({self._earlier:.4f} by earlier calls)" if self._earlier else ""
                raise InferencePaused(
                    f"the budget is spent: {spent:.4f}{before} of --shelleval-max-cost="
                    f"{self.max_cost:g}, and the next request may cost {price:.4f}; raise it to go on"
                )
            self._changed.clear()
            await self._changed.wait()
        self._reserved += price
        self._in_flight += 1
        return reserved

    def settle(self, reserved: Mapping[str, int], used: Mapping[str, int] | None) -> None:
        """Book *used*, the usage of a request that has ended; None if it cost nothing."""
        self._reserved -= self.prices.cost(reserved)
        self._in_flight -= 1
        if used is not None:
            self.spent += self.prices.cost(used)
        self._changed.set()

    def saw_input(self, more: int) -> None:
        """Reserve *more* tokens per request: the server read more than estimated (its own prompt)."""
        self._hidden_input = max(self._hidden_input, more)


class Account:
    """Counts the cost of all attempts at one request.

    A model that retries awaits :meth:`reserve` before each attempt, and calls :meth:`sent` when the
    request goes out and :meth:`refund` if the server refused to process it. Every other attempt
    counts as the most that it can cost, unless its reply has a plausible usage. Without a *budget*
    tokens are counted but not limited.
    """

    def __init__(
        self, messages: Sequence[Message], params: Mapping[str, Any], budget: Budget | None = None
    ) -> None:
        self.unaccounted: dict[str, int] = {}
        """The most tokens that attempts without a plausible usage can have used; empty for none."""
        self._params = params
        self._most = most_tokens(messages, params)
        self._budget = budget
        self._reserved: dict[str, int] | None = None
        self._sent = False

    @property
    def bounded(self) -> bool:
        """Whether the cost is limited."""
        return self._budget is not None and self._budget.max_cost is not None

    async def reserve(self) -> None:
        """Wait until the budget allows one more attempt; a refunded reservation is used again.

        Raises InferencePaused if the budget can't allow it, and UserError if nothing limits the reply.
        """
        if self.bounded:
            check_limited(self._params)
        if self._reserved is not None and not self._sent:
            return
        self.close()
        budget = self._budget
        self._reserved = self._most if budget is None else await budget.reserve(self._most)

    def sent(self) -> None:
        """Call when the attempt goes out: from then on the server may bill it."""
        self._sent = True

    def refund(self) -> None:
        """Call when the server did not get the attempt, or refused to process it."""
        self._sent = False

    def close(self, usage: Mapping[str, int] | None = None) -> None:
        """Call when the last attempt has ended, with the *usage* of its reply, if any."""
        reserved, self._reserved = self._reserved, None
        if reserved is None:
            return
        used: Mapping[str, int] | None = reserved
        if not self._sent:
            used = None
        elif usage is not None and is_plausible(usage):
            used = usage
            if self._budget is not None:
                self._budget.saw_input(usage["input_tokens"] - self._most["input_tokens"])
        else:
            for kind, count in reserved.items():
                self.unaccounted[kind] = self.unaccounted.get(kind, 0) + count
        self._sent = False
        if self._budget is not None:
            self._budget.settle(reserved, used)


def cost_of(command: Command, prices: Prices) -> float:
    """The cost of all attempts at *command*; the most possible for those with unknown usage."""
    known = [command.usage, command.extra.get(UNACCOUNTED)]
    usages = [usage for usage in known if is_plausible(usage)]
    if not usages and not command.raw_response is command.generated_command is None:
        # written by an earlier version, or by hand
        asked = Message(role="user", content=command.task)
        usages.append(most_tokens([asked], command.params))
    batch = command.extra.get("inference") == "batch"
    return sum(prices.cost(usage, batch=batch) for usage in usages if usage)


def cost_of_earlier_calls(store: CommandStore, prices: Prices, free: Collection[str]) -> float:
    """The cost of all lines of *store*, except those of built-in models and of the *free* ones."""
    unpaid = {None, *BUILT_IN, *free}
    seen: set[tuple[object, ...]] = set()
    total = 0.0
    for command in store.lines():
        # a line written again because its row has changed keeps its time stamp
        key = command.task_id, command.model, command.sample, command.timestamp
        if command.model in unpaid or (command.timestamp and key in seen):
            continue
        seen.add(key)
        total += cost_of(command, prices)
    return total


@dataclass(frozen=True, slots=True)
class Forecast:
    """The requests that a run would make, with their cost."""

    requests: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    """At most."""
    likely_output_tokens: int | None = 0
    """Estimated by the mean of the model's cached replies; None if there are none."""
    cost: float | None = None
    """At most; None without prices."""
    likely_cost: float | None = None
    """With the likely output."""

    def __add__(self, other: Forecast) -> Forecast:
        """The sum of both; a figure that is unknown in one is unknown in the sum."""
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
    """The forecast of *plan*'s requests, by model name, without the models that cost nothing.

    *batched* says whether a model is asked through the Batch API.
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
    """The forecast of one model; *lengths* are the output tokens of its earlier replies."""
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
