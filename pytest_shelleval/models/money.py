"""What requests cost: estimates before, sums after, and a budget that is not overrun."""

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
"""English has 4 to 5; paths, code and other languages fewer. Better too dear than too cheap."""
_TOKENS_PER_MESSAGE = 8
_UNLIMITED_OUTPUT = 4096
"""Taken for the longest reply where max_tokens is none."""
UNACCOUNTED = "unaccounted_usage"
"""Field of a record: the most tokens that attempts without a plausible usage can have used."""


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


def reply_limit(params: Mapping[str, Any]) -> int | None:
    """The limit that *params* set on the tokens of a reply; None where they set none."""
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
    """The usage of one request with the longest reply to it."""
    return {"input_tokens": estimate_tokens(messages), "output_tokens": longest_reply(params)}


def check_limited(params: Mapping[str, Any]) -> None:
    """See that *params* limit the reply, as ``max_cost`` needs it. Raises UserError."""
    if reply_limit(params) is None:
        raise UserError(
            "--shelleval-max-cost needs a limit on the tokens of a reply, or nobody knows what one may "
            "cost: set --shelleval-max-tokens to a number"
        )


def is_plausible(usage: object) -> bool:
    """Whether *usage* can be what a reply used: something in, something out, reasoning included."""
    if not isinstance(usage, Mapping):
        return False
    read, written, reasoning = (
        usage.get(kind) or 0 for kind in ("input_tokens", "output_tokens", "reasoning_tokens")
    )
    if not all(isinstance(count, int) for count in (read, written, reasoning)):
        return False
    return bool(read > 0 and written >= max(1, reasoning))


class Budget:
    """Lets a request go only if even the longest reply to it, and to all in flight, can be paid.

    *max_cost* None: no bound, and the sum is kept all the same. *earlier* is what earlier calls have
    cost: it counts against the bound.
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
        """Wait until one more request can be paid. Returns the usage to give to :meth:`settle`.

        Raises InferencePaused when it can't, also when all in flight have come cheap.
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
        """A request ended, and *used* is what to book for it; None for nothing."""
        self._reserved -= self.prices.cost(reserved)
        self._in_flight -= 1
        if used is not None:
            self.spent += self.prices.cost(used)
        self._changed.set()

    def saw_input(self, more: int) -> None:
        """A server read *more* tokens than were estimated (a prompt of its own): reserve them, too."""
        self._hidden_input = max(self._hidden_input, more)


class Account:
    """What the attempts at one request cost.

    A model that asks its server more than once says so: it awaits :meth:`reserve` before each attempt,
    and calls :meth:`sent` when the request goes out and :meth:`refund` where the server refused to
    work on it. Every other attempt counts as much as it can cost at most, unless its reply tells a
    plausible usage. Without a *budget* tokens are counted and nothing is bounded.
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
        """Whether the cost has a bound."""
        return self._budget is not None and self._budget.max_cost is not None

    async def reserve(self) -> None:
        """Wait until one more attempt can be paid; what was refunded serves again.

        Raises InferencePaused where it can't be paid, and UserError where nothing limits the reply.
        """
        if self.bounded:
            check_limited(self._params)
        if self._reserved is not None and not self._sent:
            return
        self.close()
        budget = self._budget
        self._reserved = self._most if budget is None else await budget.reserve(self._most)

    def sent(self) -> None:
        """The attempt goes out: from here on the server may bill it."""
        self._sent = True

    def refund(self) -> None:
        """The server has nothing of the attempt, or refused to work on it."""
        self._sent = False

    def close(self, usage: Mapping[str, int] | None = None) -> None:
        """The last attempt has ended, with *usage* if there was a reply."""
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
    """What the attempts at *command* have cost; at most, where their usage is not known."""
    known = [command.usage, command.extra.get(UNACCOUNTED)]
    usages = [usage for usage in known if is_plausible(usage)]
    if not usages and not command.raw_response is command.generated_command is None:
        # written by an earlier version, or by hand
        asked = Message(role="user", content=command.task)
        usages.append(most_tokens([asked], command.params))
    batch = command.extra.get("inference") == "batch"
    return sum(prices.cost(usage, batch=batch) for usage in usages if usage)


def cost_of_earlier_calls(store: CommandStore, prices: Prices, free: Collection[str]) -> float:
    """What all lines of *store* have cost, but for those of our own models and of the *free* ones."""
    unpaid = {None, *BUILT_IN, *free}
    seen: set[tuple[object, ...]] = set()
    total = 0.0
    for command in store.lines():
        # a line that was written anew, since its row has changed, keeps its time stamp
        key = command.task_id, command.model, command.sample, command.timestamp
        if command.model in unpaid or (command.timestamp and key in seen):
            continue
        seen.add(key)
        total += cost_of(command, prices)
    return total


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
