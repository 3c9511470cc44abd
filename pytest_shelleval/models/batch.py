"""Phase 1 through OpenAI's Batch API: half the price, replies within a day."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import openai

from pytest_shelleval.core.clock import now
from pytest_shelleval.core.commands import Command, CommandStore
from pytest_shelleval.core.errors import InferenceAborted, InferencePaused, UserError
from pytest_shelleval.core.files import replace_file
from pytest_shelleval.core.redaction import redacted
from pytest_shelleval.models.answers import Failure, read_reply, server_message
from pytest_shelleval.models.chat import ChatModel
from pytest_shelleval.models.inference import InferenceOptions, InferenceSummary
from pytest_shelleval.models.money import (
    UNACCOUNTED,
    cost_of,
    cost_of_earlier_calls,
    is_plausible,
    most_tokens,
)
from pytest_shelleval.models.plan import InferencePlan
from pytest_shelleval.models.records import Job, error_record, fill_in

_REQUESTS_PER_BATCH = 50_000
_BYTES_PER_BATCH = 150_000_000
_PATH: Literal["/v1/chat/completions"] = "/v1/chat/completions"
_NONE_HERE = (404, 405, 501)
_OVER = frozenset({"completed", "expired", "cancelled", "failed"})
_LONGEST_POLL = 60.0
_log = logging.getLogger(__name__)


def state_file(store: CommandStore) -> Path:
    """The file that lists the submitted batches, beside commands.jsonl."""
    return store.path.with_name(store.path.name + ".batches.json")


def run_batch(
    plan: InferencePlan,
    store: CommandStore,
    *,
    terms: InferenceOptions | None = None,
    summary: InferenceSummary | None = None,
    on_wait: Callable[[str], None] = lambda _: None,
    poll: float = 5.0,
) -> InferencePlan:
    """Submit *plan*'s jobs for all chat models in batches, wait, and keep the replies; blocks.

    Before and after each step, the batches under way and the records of their requests are written to
    :func:`state_file`, so that the next run resumes after a stopped one: nothing is submitted twice,
    and replies are kept even for jobs that *plan* no longer has. *on_wait* gets the progress every
    *poll* seconds (growing to a minute).

    Returns the plan of jobs left to ask directly: those of other models, and of servers that have no
    Batch API (with a warning in *summary*). Raises InferencePaused when the batches, with what was
    spent before, might cost more than ``max_cost``, at
    :data:`~pytest_shelleval.models.money.BATCH_FACTOR` of the prices: then it submits nothing, but
    still waits for the batches under way. InferenceAborted when the server refuses the batches.
    """
    summary = InferenceSummary() if summary is None else summary
    state = _State(state_file(store))
    terms = InferenceOptions() if terms is None else terms
    run = _Run(store, state, summary, terms, on_wait, poll)
    jobs = [job for job in plan.jobs if isinstance(job.model, ChatModel)]
    left = [job for job in plan.jobs if not isinstance(job.model, ChatModel)]
    models = {job.model.name: job.model for job in jobs if isinstance(job.model, ChatModel)}
    begun = time.monotonic()
    with ExitStack() as stack:
        clients = [(stack.enter_context(_client(model)), model) for model in models.values()]
        for client, model in clients:
            run.adopt(client, model)
        new = [job for job in jobs if _id(job) not in state.ids()]
        too_dear = _too_dear(new, run, plan.free)
        for client, model in clients if too_dear is None else ():
            mine = [job for job in new if job.model is model]
            try:
                run.submit(client, model, mine)
            except _NoBatches as error:
                summary.warnings.append(
                    f"{model.name}: {model.base_url} has no Batch API ({error}); asked directly"
                )
                left += mine
        for client, model in clients:  # only now, so that no batch waits for another
            run.collect(client, model)
    summary.seconds += time.monotonic() - begun
    if too_dear is not None:
        raise too_dear
    return replace(plan, jobs=left)


class _NoBatches(Exception):  # noqa: N818 - a state of the server
    """The server has no Batch API."""


class _State:
    """The batches under way, on disk: of each its server, its id, the record of each request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.batches: list[dict[str, Any]] = []
        if path.exists():
            try:
                self.batches = json.loads(path.read_text(encoding="utf-8"))["batches"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}: can't be read ({error}); it lists the batches under way. Delete it to "
                    "submit them again, and pay for them again"
                ) from error

    def save(self) -> None:
        if self.batches:
            text = json.dumps({"version": 1, "batches": self.batches}, ensure_ascii=False)
            replace_file(self.path, text)
        else:
            self.path.unlink(missing_ok=True)

    def ids(self) -> set[str]:
        return {ident for batch in self.batches for ident in batch["records"]}

    def of(self, model: ChatModel) -> list[dict[str, Any]]:
        place = [model.base_url, model.name]
        return [batch for batch in self.batches if [batch["url"], batch["model"]] == place]


class _Run:
    """The steps of :func:`run_batch`."""

    def __init__(
        self,
        store: CommandStore,
        state: _State,
        summary: InferenceSummary,
        terms: InferenceOptions,
        on_wait: Callable[[str], None],
        poll: float,
    ) -> None:
        self.store, self.state, self.summary = store, state, summary
        self.terms, self.on_wait, self.poll = terms, on_wait, poll

    def adopt(self, client: openai.OpenAI, model: ChatModel) -> None:
        """Look up the ids of batches whose submission was interrupted; drop those that do not exist."""
        for batch in [each for each in self.state.of(model) if each["id"] is None]:
            try:
                found = [
                    each.id
                    for each in client.batches.list(limit=100)
                    if _token(each) == batch["token"]
                ]
            except openai.OpenAIError as error:
                raise InferenceAborted(
                    f"an earlier run was stopped while it submitted a batch, and {model.base_url} does "
                    f"not list its batches ({_said(error)}): check there whether it exists; if not, "
                    f"delete {self.state.path} to submit it again"
                ) from error
            if found:
                batch["id"] = found[0]
            else:
                self.state.batches.remove(batch)
            self.state.save()

    def submit(self, client: openai.OpenAI, model: ChatModel, jobs: Sequence[Job]) -> None:
        """Submit *jobs*. Raises _NoBatches before anything is submitted."""
        for chunk, lines in _chunks(model, jobs):
            token = hashlib.sha256(b"".join(lines) + str(time.time_ns()).encode()).hexdigest()[:32]
            batch = {
                "url": model.base_url,
                "model": model.name,
                "token": token,
                "id": None,
                "records": {
                    _id(job): {
                        **error_record(job).to_record(),
                        UNACCOUNTED: most_tokens(job.messages, job.params),
                    }
                    for job in chunk
                },
            }
            try:
                name = f"shelleval-{token}.jsonl"
                upload = client.files.create(file=(name, b"".join(lines)), purpose="batch")
                self.state.batches.append(batch)
                self.state.save()  # from here on the batch may exist, even if we are killed
                made = client.batches.create(
                    input_file_id=upload.id,
                    endpoint=_PATH,
                    completion_window="24h",
                    metadata={"shelleval": token},
                )
            except openai.APIStatusError as error:
                if batch in self.state.batches:
                    self.state.batches.remove(batch)  # refused, so it does not exist
                    self.state.save()
                if error.status_code in _NONE_HERE:
                    raise _NoBatches(f"status {error.status_code}") from error
                raise InferenceAborted(
                    f"{model.base_url} refused the batch: {_said(error)}"
                ) from error
            except openai.OpenAIError as error:
                raise InferenceAborted(
                    f"can't submit the batch to {model.base_url}: {_said(error)}"
                ) from error
            batch["id"] = made.id
            self.state.save()
            _log.info("batch %s: %d requests of %s submitted", made.id, len(chunk), model.name)

    def collect(self, client: openai.OpenAI, model: ChatModel) -> None:
        """Wait for the batches of *model*, and keep their replies."""
        for batch in self.state.of(model):
            try:
                over = self._wait(client, batch)
                files = [over.output_file_id, over.error_file_id]
                for ident in filter(None, files):
                    self._keep(client.files.content(ident).content, batch, model)
            except openai.OpenAIError as error:
                raise InferenceAborted(
                    f"batch {batch['id']} at {model.base_url}: {_said(error)}; run the same command "
                    "again to keep waiting"
                ) from error
            self.state.batches.remove(batch)
            self.state.save()
            if over.status == "failed":
                faults = over.errors.data if over.errors is not None else None
                said = "; ".join(fault.message or "" for fault in faults or [])
                raise InferenceAborted(
                    f"batch {batch['id']} has failed: {said or 'no reason given'}"
                )
            if batch["records"]:
                self.summary.warnings.append(
                    f"batch {batch['id']} is {over.status}; {len(batch['records'])} of its requests "
                    "have no answer: run the same command again to ask them"
                )

    def _wait(self, client: openai.OpenAI, batch: Mapping[str, Any]) -> Any:
        pause = self.poll
        while True:
            found = client.batches.retrieve(batch["id"])
            _log.info("batch %s: %s", batch["id"], found.status)
            if found.status in _OVER:
                return found
            counts = found.request_counts
            done = f"{counts.completed + counts.failed}/{counts.total}" if counts else "0"
            self.on_wait(f"batch {batch['id']} {found.status}, {done} (Ctrl-C to continue later)")
            time.sleep(pause)
            pause = min(pause * 1.5, max(self.poll, _LONGEST_POLL))

    def _keep(self, content: bytes, batch: dict[str, Any], model: ChatModel) -> None:
        """Write the record of each line of an output or error file."""
        for line in content.splitlines():
            try:
                answer = json.loads(line)
                record = batch["records"].pop(answer["custom_id"], None)
            except (ValueError, KeyError, TypeError):
                continue  # its request stays unanswered, and is asked again
            if record is None:
                continue
            command = Command.from_record({**record, "timestamp": now(), "inference": "batch"})
            known = {name: value for name, value in command.extra.items() if name != UNACCOUNTED}
            response = answer.get("response") or {}
            status, body = response.get("status_code", 200), response.get("body")
            try:
                if answer.get("error") or status != 200:
                    command.extra = known
                    said, _ = server_message(answer.get("error") or body)
                    raise Failure(f"{model.base_url} answered {status} in the batch: {said}")
                reply = read_reply(json.dumps(body).encode(), "", model.base_url)
            except Failure as failure:
                command.error = redacted(failure.reason)
            else:
                fill_in(command, reply, self.terms.extract)
                if is_plausible(reply.usage):
                    command.extra = known
            self.store.append(command)
            self.summary.count(command)
            prices, on_record = self.terms.prices, self.terms.on_record
            if prices is not None:
                self.summary.cost = (self.summary.cost or 0.0) + cost_of(command, prices)
            if on_record is not None:
                on_record(command)


def _client(model: ChatModel) -> openai.OpenAI:
    return openai.OpenAI(
        api_key=model.api_key,
        base_url=model.base_url,
        max_retries=4,
        http_client=openai.DefaultHttpxClient(params=model.query),
    )


def _too_dear(jobs: Sequence[Job], run: _Run, free: Collection[str]) -> InferencePaused | None:
    """Why *jobs* can't be submitted for ``max_cost``; None if they can."""
    prices, max_cost = run.terms.prices, run.terms.max_cost
    if prices is None or max_cost is None or not jobs:
        return None
    earlier = cost_of_earlier_calls(run.store, prices, free)
    for batch in run.state.batches:
        for record in batch["records"].values():
            earlier += prices.cost(record.get(UNACCOUNTED, {}), batch=True)
    most = sum(prices.cost(most_tokens(job.messages, job.params), batch=True) for job in jobs)
    if earlier + most <= max_cost:
        return None
    before = f", after {earlier:.4f} by earlier calls" if earlier else ""
    return InferencePaused(
        f"the batch of {len(jobs)} requests may cost {most:.4f}{before}, more than "
        f"--shelleval-max-cost={max_cost:g}; raise it, or lower --shelleval-max-tokens; nothing was "
        "submitted"
    )


def _chunks(model: ChatModel, jobs: Sequence[Job]) -> Iterator[tuple[list[Job], list[bytes]]]:
    """Jobs and their lines, in chunks that fit into one batch."""
    chunk: list[Job] = []
    lines: list[bytes] = []
    size = 0
    for job in jobs:
        request = {
            "custom_id": _id(job),
            "method": "POST",
            "url": _PATH,
            "body": model.body(job.request),
        }
        line = json.dumps(request).encode() + b"\n"
        if chunk and (len(chunk) >= _REQUESTS_PER_BATCH or size + len(line) > _BYTES_PER_BATCH):
            yield chunk, lines
            chunk, lines, size = [], [], 0
        chunk.append(job)
        lines.append(line)
        size += len(line)
    if chunk:
        yield chunk, lines


def _id(job: Job) -> str:
    """The id of *job*'s request, the same in every run."""
    key = [job.task.task_id, job.model.name, job.sample, job.prompt_hash, dict(job.params)]
    return hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:40]


def _token(batch: Any) -> str | None:
    metadata = getattr(batch, "metadata", None)
    return metadata.get("shelleval") if isinstance(metadata, dict) else None


def _said(error: openai.OpenAIError) -> str:
    if isinstance(error, openai.APIStatusError):
        return f"{error.status_code} {server_message(error.body)[0]}".strip()
    return " ".join(str(error).split())[:300]
