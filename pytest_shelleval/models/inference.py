"""Phase 1: sends every task's prompt to the models and appends each reply to commands.jsonl."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_shelleval.core.commands import Command, CommandStore
from pytest_shelleval.core.errors import GenerationError, InferenceAborted, InferencePaused
from pytest_shelleval.models.base import Model, Reply, ServerFault
from pytest_shelleval.models.extract import extract_command
from pytest_shelleval.models.money import (
    UNACCOUNTED,
    Account,
    Budget,
    Prices,
    cost_of_earlier_calls,
)
from pytest_shelleval.models.plan import InferencePlan
from pytest_shelleval.models.records import Extract, Job, error_record, record_of_reply

OnRecord = Callable[[Command], None]

_SECONDS_TO_CANCEL = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """Options for all requests of phase 1, sent one by one or in a batch."""

    extract: Extract = extract_command
    prices: Prices | None = None
    max_cost: float | None = None
    """In the currency of *prices*, which must be set too; None for no limit."""
    on_record: OnRecord | None = None
    """Called with each record, after it was written."""


@dataclass(slots=True)
class InferenceSummary:
    """What phase 1 did. Updated as it goes, so that it is valid for an interrupted phase too."""

    asked: int = 0
    cached: int = 0
    failed: int = 0
    """Requests, of those asked, that got no command."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    """Wall time."""
    cached_tokens: int = 0
    """Input tokens that were read from the server's cache."""
    reasoning_tokens: int = 0
    """Output tokens that were reasoning."""
    cost: float | None = None
    """None without prices. An attempt with unknown usage counts as the most that it can cost."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know, a line each."""
    unanswered: int = 0
    """Failed requests without an answer of the model; the next run asks again."""

    def count(self, command: Command) -> None:
        """Count the record of one request."""
        self.asked += 1
        self.failed += command.generated_command is None
        self.unanswered += not command.answered
        usage = command.usage or {}
        self.input_tokens += usage.get("input_tokens", 0)
        self.output_tokens += usage.get("output_tokens", 0)
        self.cached_tokens += usage.get("cached_tokens", 0)
        self.reasoning_tokens += usage.get("reasoning_tokens", 0)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens by kind, without those that are 0."""
        kinds = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def run_inference(
    plan: InferencePlan,
    store: CommandStore,
    *,
    concurrency: int,
    terms: InferenceOptions | None = None,
    summary: InferenceSummary | None = None,
) -> InferenceSummary:
    """Make the requests of *plan* and keep every reply; blocks until all are done.

    Runs :func:`infer` in its own thread, so that it works whether or not the caller's thread has an
    event loop, and leaves none behind; ``on_record`` is called in that thread. An exception in the
    calling thread (KeyboardInterrupt) cancels the requests in flight, keeps the replies received,
    and is raised. Raises what :func:`infer` raises.
    """
    outcome: Future[InferenceSummary] = Future()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    started = threading.Event()

    async def main() -> InferenceSummary:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        started.set()
        return await infer(plan, store, concurrency=concurrency, terms=terms, summary=summary)

    def run() -> None:
        try:
            outcome.set_result(asyncio.run(main()))
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="shelleval-inference", daemon=True)
    thread.start()
    try:
        return outcome.result()
    finally:
        if not outcome.done():
            started.wait(_SECONDS_TO_CANCEL)
            for loop, task in running:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(task.cancel)
        thread.join(_SECONDS_TO_CANCEL)  # so that a model that blocks the loop can't block Ctrl-C


async def infer(
    plan: InferencePlan,
    store: CommandStore,
    *,
    concurrency: int,
    terms: InferenceOptions | None = None,
    summary: InferenceSummary | None = None,
) -> InferenceSummary:
    """Make the requests of *plan*, *concurrency* at a time over all models, and close the models.

    Each reply is appended to *store* as it comes. A failed request becomes a record with ``error``.
    InferenceAborted (from a model, or after too many equal server faults in a row), and any exception
    of ``on_record`` or *store*, cancels the requests in flight and is raised again; cancellation does
    the same. InferencePaused, from a model or because the next request might take the cost over
    ``max_cost``, is raised after those in flight have ended; the cost of earlier calls into *store*
    counts too. Raises UserError if ``max_cost`` is given and nothing limits the replies. *summary* is
    updated and returned; None for a new one.
    """
    summary = InferenceSummary() if summary is None else summary
    phase = _Phase(plan, store, concurrency, terms or InferenceOptions(), summary)
    begun = time.monotonic()
    try:
        await phase.run()
    finally:
        summary.seconds += time.monotonic() - begun
        await phase.close()
    if phase.paused is not None:
        raise InferencePaused(
            f"{phase.paused}. {summary.asked} of {len(plan.jobs)} requests were made, and the replies "
            f"are kept in {store.path}: run the same command later to continue"
        )
    return summary


class _Phase:
    """The workers of :func:`infer`, and what they share."""

    def __init__(
        self,
        plan: InferencePlan,
        store: CommandStore,
        concurrency: int,
        terms: InferenceOptions,
        summary: InferenceSummary,
    ) -> None:
        self.paused: InferencePaused | None = None
        self._store, self._terms, self._summary = store, terms, summary
        self._plan = plan
        self._jobs = iter(plan.jobs)
        self._workers = min(max(1, concurrency), len(plan.jobs))
        self._models = {id(job.model): job.model for job in plan.jobs}
        self._watches = {
            key: _FaultWatch(concurrency, sum(job.model is model for job in plan.jobs))
            for key, model in self._models.items()
        }
        self._ended = asyncio.Event()
        self._budget: Budget | None = None
        if terms.prices is not None:
            earlier = 0.0
            if terms.max_cost is not None:
                earlier = cost_of_earlier_calls(store, terms.prices, plan.free)
            self._budget = Budget(terms.prices, terms.max_cost, earlier)
        self._cost_before = summary.cost or 0.0

    async def run(self) -> None:
        """Make all requests. Raises like :func:`infer`, but sets ``paused`` instead of raising it."""
        self._summary.cached += self._plan.cached
        for command in self._plan.outdated:
            self._store.append(command)
        workers = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def close(self) -> None:
        """Copy the models' warnings to the summary, and close the models."""
        for model in self._models.values():
            for warning in getattr(model, "warnings", ()):
                line = f"{model.name}: {warning}"
                if line not in self._summary.warnings:
                    self._summary.warnings.append(line)
            aclose = getattr(model, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # all replies are kept; nothing is lost
                    await aclose()

    async def _work(self) -> None:
        for job in self._jobs:
            if self.paused is not None or self._ended.is_set():
                return
            try:
                command, fault = await self._pay_and_ask(job)
            except InferencePaused as stop:
                self.paused = self.paused or stop
                return
            if self._ended.is_set() and fault is not None and not self._has_a_price(command):
                return  # enough of the faults that ended the phase are recorded
            self._keep(job, command)
            try:
                self._watches[id(job.model)].saw(fault)
            except InferenceAborted:
                self._ended.set()
                raise

    def _keep(self, job: Job, command: Command) -> None:
        if not _is_free(job.model) or not self._store.holds(command):
            self._store.append(command)
        self._summary.count(command)
        if self._terms.on_record is not None:
            self._terms.on_record(command)

    async def _pay_and_ask(self, job: Job) -> tuple[Command, ServerFault | None]:
        if _is_free(job.model):
            return await _ask(job, self._terms.extract)
        account = Account(job.messages, job.params, self._budget)
        await account.reserve()
        account.sent()
        try:
            return await _ask(job, self._terms.extract, account)
        except BaseException:  # paused, aborted or cancelled
            account.close()
            lost = error_record(job, error="the phase ended before there was a reply")
            _book(lost, account)
            if self._has_a_price(lost):
                self._store.append(lost)
            raise
        finally:
            if self._budget is not None:
                self._summary.cost = self._cost_before + self._budget.spent

    def _has_a_price(self, command: Command) -> bool:
        """Whether *command* must be recorded because it may have cost something."""
        return self._budget is not None and UNACCOUNTED in command.extra


def _is_free(model: Model) -> bool:
    return bool(getattr(model, "free", False))


class _FaultWatch:
    """Ends the phase when one model has the same server fault too often in a row.

    Before the first reply, the limit is 8 for a server that answers with faults, and for one that
    can't be reached the number of concurrent requests (8 at most); after it, the limit is higher.
    """

    def __init__(self, concurrency: int, jobs: int) -> None:
        self._unreached = min(concurrency, jobs, 8)
        self._later = max(16, 2 * concurrency)
        self._replied = False
        self._reason = ""
        self._row = 0

    def saw(self, fault: ServerFault | None) -> None:
        """Count the outcome of one request. Raises InferenceAborted at the limit."""
        if fault is None:
            self._replied, self._row = True, 0
            return
        self._row = self._row + 1 if fault.reason == self._reason else 1
        self._reason = fault.reason
        first = self._unreached if fault.unreachable else 8
        limit = self._later if self._replied else first
        if self._row >= limit:
            raise InferenceAborted(fault.reason)


def _book(command: Command, account: Account) -> None:
    """Record in *command* the tokens of attempts whose usage is unknown."""
    if account.unaccounted:
        command.extra = {**command.extra, UNACCOUNTED: account.unaccounted}


async def _ask(
    job: Job, extract: Extract, account: Account | None = None
) -> tuple[Command, ServerFault | None]:
    """Ask *job*'s model; returns the record, and the fault if the server was to blame."""
    begun = time.monotonic()
    fault: ServerFault | None = None
    reply: object = None
    try:
        reply = await job.model.generate(replace(job.request, account=account))
    except InferenceAborted:
        raise
    except GenerationError as error:
        command = error_record(job, error=error.reason, attempts=error.attempts)
        fault = error if isinstance(error, ServerFault) else None
    except Exception as error:
        command = error_record(job, error=f"{type(error).__name__}: {error}")
    else:
        command = record_of_reply(job, reply, extract)
    command.latency_s = round(time.monotonic() - begun, 3)
    if account is not None:
        account.close(command.usage)
        _book(command, account)
    _log_answer(job, command, reply)
    return command, fault


def _log_answer(job: Job, command: Command, reply: object) -> None:
    name, model = f"{command.task_id} sample {command.sample}", command.model
    request = (
        f", request id {reply.request_id}" if isinstance(reply, Reply) and reply.request_id else ""
    )
    usage = command.usage or {}
    tokens = "".join(f", {usage[kind]} {kind.replace('_', ' ')}" for kind in sorted(usage))
    seconds = command.latency_s
    if command.error is not None:
        _log.warning(
            "%s: %s gave no command, %s s%s: %s", name, model, seconds, request, command.error
        )
    else:
        _log.info("%s: %s answered, %s s%s%s", name, model, seconds, tokens, request)
        _log.debug("%s: %s wrote %r", name, model, command.generated_command)
