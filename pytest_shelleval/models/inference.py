"""Phase 1: every task's prompt goes to the models, every reply into commands.jsonl as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from pytest_shelleval.core.commands import Command, CommandStore, clean_params
from pytest_shelleval.core.errors import GenerationError, InferenceAborted
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Message, Model, Reply, Request, ServerFault
from pytest_shelleval.models.extract import OPEN_ENDED_RULES, Extraction, extract_command
from pytest_shelleval.models.prompt import prompt_hash

Prompts = Callable[[Task], Sequence[Message]]
"""From a task to its messages: :meth:`PromptTemplate.render`, or what a hook gives."""
Extract = Callable[[str], Extraction]
OnRecord = Callable[[Command], None]

_SECONDS_TO_CANCEL = 10.0
_EXTRA = ("tags", "difficulty_level", "timeout", "steps")


@dataclass(frozen=True, slots=True)
class Job:
    """One question to ask."""

    task: Task
    model: Model
    sample: int
    messages: Sequence[Message]
    prompt_hash: str
    params: Mapping[str, Any]


@dataclass(slots=True)
class InferencePlan:
    """What is to be asked, and what need not be."""

    jobs: list[Job] = field(default_factory=list)
    cached: list[Command] = field(default_factory=list)
    """Bought before for the same prompt and parameters, with the task as it stands today."""


@dataclass(slots=True)
class InferenceSummary:
    """What a phase 1 did."""

    asked: int = 0
    cached: int = 0
    failed: int = 0
    """Of those asked: without a command."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    """Wall time."""


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
            plan.cached.append(_brought_up_to_date(known, task))
    return plan


def run_inference(
    plan: InferencePlan,
    store: CommandStore,
    *,
    concurrency: int,
    on_record: OnRecord | None = None,
    extract: Extract = extract_command,
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
            plan, store, concurrency=concurrency, on_record=on_record, extract=extract
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
) -> InferenceSummary:
    """Ask what *plan* says, *concurrency* requests at a time over all models, and close the models.

    Each reply is appended to *store* as it comes. A request that fails becomes a record with
    ``error``. InferenceAborted (from a model, or because nothing but equal server faults came), and
    any exception of *on_record* or *store*, cancels the requests in flight and is raised again;
    cancellation does the same.
    """
    begun = time.monotonic()
    summary = InferenceSummary(cached=len(plan.cached))
    for command in plan.cached:
        if not store.holds(command):  # another prompt was in force, or the row has changed
            store.append(command)
    models = {id(job.model): job.model for job in plan.jobs}
    watches = {
        key: _FaultWatch(concurrency, sum(job.model is model for job in plan.jobs))
        for key, model in models.items()
    }
    jobs = iter(plan.jobs)

    async def work() -> None:
        for job in jobs:
            command, fault = await _ask(job, extract)
            if not getattr(job.model, "free", False) or not store.holds(command):
                store.append(command)
            summary.asked += 1
            summary.failed += command.generated_command is None
            for name, count in (command.usage or {}).items():
                if name == "input_tokens":
                    summary.input_tokens += count
                elif name == "output_tokens":
                    summary.output_tokens += count
            if on_record is not None:
                on_record(command)
            watches[id(job.model)].saw(fault)

    workers = [asyncio.create_task(work()) for _ in range(min(max(1, concurrency), len(plan.jobs)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        for model in models.values():
            aclose = getattr(model, "aclose", None)
            if aclose is not None:
                with contextlib.suppress(Exception):  # all replies are kept; nothing is lost
                    await aclose()
    summary.seconds = time.monotonic() - begun
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
        reply = await job.model.generate(Request(job.task, job.messages, job.sample, job.params))
    except InferenceAborted:
        raise
    except GenerationError as error:
        command = _record(job, error=error.reason, attempts=error.attempts)
        fault = error if isinstance(error, ServerFault) else None
    except Exception as error:
        command = _record(job, error=f"{type(error).__name__}: {error}")
    else:
        command = _record_of_reply(job, reply, extract)
    command.latency_s = round(time.monotonic() - begun, 3)
    return command, fault


def _record_of_reply(job: Job, reply: object, extract: Extract) -> Command:
    if isinstance(reply, str):
        reply = Reply(text=reply)
    if not isinstance(reply, Reply) or not isinstance(reply.text, str):
        return _record(
            job, error=f"the model replied with {type(reply).__name__}, not with a Reply"
        )
    record = _record(
        job,
        raw_response=reply.text,
        reasoning=reply.reasoning,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        attempts=reply.attempts,
    )
    if reply.command is not None:
        found = Extraction(reply.command, "given", reasoning=None)
    else:
        try:
            found = extract(reply.text)
        except Exception as error:  # an extractor of the user's own
            found = Extraction(None, "none", f"extraction failed: {type(error).__name__}: {error}")
    record.reasoning = reply.reasoning or found.reasoning
    record.generated_command, record.error = _verdict(found, reply)
    return record


def _verdict(found: Extraction, reply: Reply) -> tuple[str | None, str | None]:
    """The command, or why there is none."""
    cut = reply.finish_reason == "length"
    if found.command is not None and found.command.strip():
        if not cut or found.rule not in OPEN_ENDED_RULES:
            return found.command, None
        return None, "the reply was cut off at max_tokens, in the middle of the command"
    if reply.finish_reason == "content_filter":
        return None, "the server's content filter withheld the reply"
    reason = _one_line(found.reason or "the reply holds no command")
    return None, f"{reason} (it was cut off at max_tokens)" if cut else reason


def _record(job: Job, *, error: str | None = None, **values: Any) -> Command:
    return Command(
        task_id=job.task.task_id,
        generated_command=None,
        timestamp=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
        error=None if error is None else _one_line(error),
        model=job.model.name,
        sample=job.sample,
        prompt_hash=job.prompt_hash,
        params=dict(job.params),
        **_of_task(job.task),
        **values,
    )


def _of_task(task: Task) -> dict[str, Any]:
    """The fields of a record that come from the task."""
    return {
        "task": task.task,
        "setup_commands": list(task.setup_commands),
        "success_condition": task.success_condition,
        "extra": dict(_extra(task)),
    }


def _brought_up_to_date(command: Command, task: Task) -> Command:
    """*command* with the row as it stands today: only the prompt had to be the same."""
    fields = _of_task(task)
    kept = {name: value for name, value in command.extra.items() if name not in _EXTRA}
    return replace(command, **{**fields, "extra": {**kept, **fields["extra"]}})


def _extra(task: Task) -> Iterator[tuple[str, Any]]:
    """What execution needs of the row where the dataset is not at hand."""
    if task.tags:
        yield "tags", list(task.tags)
    for name in _EXTRA[1:]:
        value = getattr(task, name)
        if value is not None:
            yield name, value


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 500 else line[:497] + "..."
