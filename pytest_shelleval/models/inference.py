"""Phase 1: every task's prompt goes to the models, every reply into commands.jsonl as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from pytest_shelleval.core.commands import Command, CommandStore, clean_params
from pytest_shelleval.core.errors import GenerationError, InferenceAborted, InferencePaused
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Message, Model, ServerFault
from pytest_shelleval.models.extract import extract_command
from pytest_shelleval.models.money import Budget, Prices
from pytest_shelleval.models.prompt import prompt_hash
from pytest_shelleval.models.records import (
    Extract,
    Job,
    brought_up_to_date,
    error_record,
    record_of_reply,
)

Prompts = Callable[[Task], Sequence[Message]]
"""From a task to its messages: :meth:`PromptTemplate.render`, or what a hook gives."""
OnRecord = Callable[[Command], None]

_SECONDS_TO_CANCEL = 10.0


@dataclass(slots=True)
class InferencePlan:
    """What is to be asked, and what need not be."""

    jobs: list[Job] = field(default_factory=list)
    cached: list[Command] = field(default_factory=list)
    """Bought before for the same prompt and parameters, with the task as it stands today."""


@dataclass(slots=True)
class InferenceSummary:
    """What a phase 1 did. Filled in as it goes, so that it tells of one that was ended, too."""

    asked: int = 0
    cached: int = 0
    failed: int = 0
    """Of those asked: without a command."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    """Wall time."""
    cached_tokens: int = 0
    """Of the input tokens: read from the server's cache."""
    reasoning_tokens: int = 0
    """Of the output tokens: reasoning."""
    cost: float | None = None
    """None without prices."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know, a line each."""

    def count(self, command: Command) -> None:
        """Count one record that was asked for."""
        self.asked += 1
        self.failed += command.generated_command is None
        usage = command.usage or {}
        self.input_tokens += usage.get("input_tokens", 0)
        self.output_tokens += usage.get("output_tokens", 0)
        self.cached_tokens += usage.get("cached_tokens", 0)
        self.reasoning_tokens += usage.get("reasoning_tokens", 0)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens by kind, those that are not 0."""
        kinds = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def plan_inference(
    wanted: Iterable[tuple[Task, Model, int]],
    *,
    prompts: Prompts,
    params: Mapping[str, Any],
    store: CommandStore,
    refresh: bool = False,
) -> InferencePlan:
    """What must be asked to have a command for each of *wanted*, given what *store* holds.

    *wanted* are tasks with the model to ask and the number of the sample. Models that cost nothing
    are always asked; with *refresh* all are. What is wanted twice (by task id and model's name) is
    asked once. Raises what *prompts* raises (UserError for a misspelt column).
    """
    plan = InferencePlan()
    params = clean_params(params)
    prompt: dict[str, tuple[Sequence[Message], str]] = {}
    seen: set[tuple[str, str, int]] = set()
    for task, model, sample in wanted:
        if (task.task_id, model.name, sample) in seen:
            continue
        seen.add((task.task_id, model.name, sample))
        if task.task_id not in prompt:
            messages = prompts(task)
            prompt[task.task_id] = messages, prompt_hash(messages)
        messages, digest = prompt[task.task_id]
        known = None
        if not refresh and not getattr(model, "free", False):
            known = store.cached(task.task_id, model.name, sample, digest, params)
        if known is None:
            plan.jobs.append(Job(task, model, sample, messages, digest, params))
        else:
            plan.cached.append(brought_up_to_date(known, task))
    return plan


def run_inference(
    plan: InferencePlan,
    store: CommandStore,
    *,
    concurrency: int,
    on_record: OnRecord | None = None,
    extract: Extract = extract_command,
    prices: Prices | None = None,
    max_cost: float | None = None,
    summary: InferenceSummary | None = None,
) -> InferenceSummary:
    """Ask what *plan* says and keep every reply; blocks until all is done.

    Runs :func:`infer` in a thread of its own, so that it works whether or not the caller's thread
    has an event loop, and leaves none behind. *on_record* is called in that thread, after the record
    was written. An exception in the calling thread (KeyboardInterrupt) cancels the requests in
    flight, keeps what has arrived, and goes on. Raises what :func:`infer` raises.
    """
    outcome: Future[InferenceSummary] = Future()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    started = threading.Event()

    async def main() -> InferenceSummary:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        started.set()
        return await infer(
            plan,
            store,
            concurrency=concurrency,
            on_record=on_record,
            extract=extract,
            prices=prices,
            max_cost=max_cost,
            summary=summary,
        )

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
        thread.join(_SECONDS_TO_CANCEL)  # a model that blocks the loop can't hold up Ctrl-C


async def infer(
    plan: InferencePlan,
    store: CommandStore,
    *,
    concurrency: int,
    on_record: OnRecord | None = None,
    extract: Extract = extract_command,
    prices: Prices | None = None,
    max_cost: float | None = None,
    summary: InferenceSummary | None = None,
) -> InferenceSummary:
    """Ask what *plan* says, *concurrency* requests at a time over all models, and close the models.

    Each reply is appended to *store* as it comes. A request that fails becomes a record with
    ``error``. InferenceAborted (from a model, or because nothing but equal server faults came), and
    any exception of *on_record* or *store*, cancels the requests in flight and is raised again;
    cancellation does the same. InferencePaused, from a model or because the next request might take
    the cost over *max_cost* (which needs *prices*), waits for those in flight. *summary* is filled
    in and returned; a new one where None.
    """
    begun = time.monotonic()
    summary = InferenceSummary() if summary is None else summary
    summary.cached += len(plan.cached)
    budget = None if prices is None else Budget(prices, max_cost)
    already = summary.cost or 0.0
    if budget is not None:
        budget.spent = already
    for command in plan.cached:
        if not store.holds(command):  # another prompt was in force, or the row has changed
            store.append(command)
    models = {id(job.model): job.model for job in plan.jobs}
    watches = {
        key: _FaultWatch(concurrency, sum(job.model is model for job in plan.jobs))
        for key, model in models.items()
    }
    jobs = iter(plan.jobs)

    paused: list[InferencePaused] = []
    ended = asyncio.Event()

    async def paid(job: Job) -> tuple[Command, ServerFault | None]:
        if budget is None or getattr(job.model, "free", False):
            return await _ask(job, extract)
        reserved = await budget.reserve(job.messages, job.params)
        usage, unknown = None, False
        try:
            command, fault = await _ask(job, extract)
            usage, unknown = command.usage, command.raw_response is not None
        finally:
            budget.settle(reserved, usage, unknown=unknown)
            summary.cost = budget.spent
        return command, fault

    async def work() -> None:
        for job in jobs:
            if paused or ended.is_set():
                return
            try:
                command, fault = await paid(job)
            except InferencePaused as stop:
                paused.append(stop)
                return
            if ended.is_set() and fault is not None:
                return  # of the faults that ended the phase enough are written down
            if not getattr(job.model, "free", False) or not store.holds(command):
                store.append(command)
            summary.count(command)
            if on_record is not None:
                on_record(command)
            try:
                watches[id(job.model)].saw(fault)
            except InferenceAborted:
                ended.set()
                raise

    workers = [asyncio.create_task(work()) for _ in range(min(max(1, concurrency), len(plan.jobs)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        summary.seconds += time.monotonic() - begun
        for model in models.values():
            summary.warnings += [
                f"{model.name}: {line}"
                for line in getattr(model, "warnings", ())
                if f"{model.name}: {line}" not in summary.warnings
            ]
            aclose = getattr(model, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # all replies are kept; nothing is lost
                    await aclose()
    if paused:
        raise InferencePaused(
            f"{paused[0]}. {summary.asked} of {len(plan.jobs)} were asked, and what came is kept in "
            f"{store.path}: the same call goes on from there later"
        )
    return summary


class _FaultWatch:
    """Ends the phase when one model brings nothing but the same server fault.

    Before its first reply a server that can't be reached is given up after as many requests as go
    out at once (8 at most), one that answers with faults after 8; later it takes more.
    """

    def __init__(self, concurrency: int, jobs: int) -> None:
        self._unreached = min(concurrency, jobs, 8)
        self._later = max(16, 2 * concurrency)
        self._replied = False
        self._reason = ""
        self._row = 0

    def saw(self, fault: ServerFault | None) -> None:
        """Take note of one request's end. Raises InferenceAborted."""
        if fault is None:
            self._replied, self._row = True, 0
            return
        self._row = self._row + 1 if fault.reason == self._reason else 1
        self._reason = fault.reason
        first = self._unreached if fault.unreachable else 8
        limit = self._later if self._replied else first
        if self._row >= limit:
            raise InferenceAborted(fault.reason)


async def _ask(job: Job, extract: Extract) -> tuple[Command, ServerFault | None]:
    """Ask *job*'s model; the record, and the fault if the server was to blame."""
    begun = time.monotonic()
    fault: ServerFault | None = None
    try:
        reply = await job.model.generate(job.request)
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
    return command, fault
