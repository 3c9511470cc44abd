"""Turns a model's reply into its record for commands.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_shelleval.core.clock import now
from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.redaction import redacted
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Message, Model, Reply, Request
from pytest_shelleval.models.extract import OPEN_ENDED_RULES, Extraction, extract_command

Extract = Callable[[str], Extraction]

BY_MODEL, BY_HOOK = "model", "hook"
"""``command_from`` of a command from the user's code or a tool call: our rules must not replace it."""

_EXTRA = ("tags", "difficulty_level", "timeout", "steps")


@dataclass(frozen=True, slots=True)
class Job:
    """One request to make."""

    task: Task
    model: Model
    sample: int
    messages: Sequence[Message]
    prompt_hash: str
    params: Mapping[str, Any]

    @property
    def request(self) -> Request:
        """The request to pass to the model."""
        return Request(self.task, self.messages, self.sample, self.params)


def record_of_reply(job: Job, reply: object, extract: Extract) -> Command:
    """The record of what *job*'s model returned, with the command in it or why there is none."""
    if isinstance(reply, str):
        reply = Reply(text=reply)
    if not isinstance(reply, Reply) or not isinstance(reply.text, str):
        return error_record(
            job, error=f"the model replied with {type(reply).__name__}, not with a Reply"
        )
    record = error_record(job, attempts=reply.attempts)
    fill_in(record, reply, extract)
    return record


def fill_in(record: Command, reply: Reply, extract: Extract) -> None:
    """Fill *record* from *reply*, with the command in it or why there is none."""
    record.raw_response = reply.text
    record.finish_reason, record.usage = reply.finish_reason, reply.usage
    if reply.sent_params is not None:
        record.extra = {**record.extra, "sent_params": reply.sent_params}
    record.reasoning = reply.reasoning
    if reply.command is not None:
        _settle(record, Extraction(reply.command, BY_MODEL))
    else:
        _settle(record, _extracted(reply.text, extract))


def read_again(command: Command, extract: Extract) -> Command:
    """*command*; if it has none yet, with what *extract* finds in its reply.

    So a better extractor works on replies already paid for.
    """
    text = command.raw_response
    found_before = command.generated_command is not None or command.command_from == BY_MODEL
    if text is None or found_before:
        return command
    again = replace(command)
    _settle(again, _extracted(text, extract))
    return again


def _extracted(text: str, extract: Extract) -> Extraction:
    try:
        return extract(text)
    except Exception as error:  # the user's extractor may raise anything
        return Extraction(None, "none", f"extraction failed: {type(error).__name__}: {error}")


def _settle(record: Command, found: Extraction) -> None:
    """Set the command of *record*, or why it has none, from what was *found* in its reply."""
    found = verdict(found, record.raw_response or "", record.finish_reason)
    record.reasoning = record.reasoning or found.reasoning
    record.generated_command, record.error = found.command, found.reason
    if record.generated_command is not None or found.rule in (BY_MODEL, BY_HOOK):
        record.command_from = found.rule


def verdict(found: Extraction, text: str, finish_reason: str | None) -> Extraction:
    """*found* in the reply *text*, checked against why the reply ended: a command that can be run,
    or why there is none.
    """
    cut = finish_reason == "length"
    if cut and found.rule in OPEN_ENDED_RULES:  # incomplete; a complete one may come before it
        found = extract_command(text, cut=True)
        if found.command is None:
            reason = "the reply was cut off at max_tokens, in the middle of the command"
            return replace(found, reason=reason)
    if found.command is not None and found.command.strip():
        return found
    if finish_reason == "content_filter":
        reason = "the server's content filter withheld the reply"
    else:
        reason = _one_line(found.reason or "the reply holds no command")
        reason += " (it was cut off at max_tokens)" if cut else ""
    return replace(found, command=None, reason=reason)


def error_record(job: Job, *, error: str | None = None, **values: Any) -> Command:
    """The record of *job* without a command, as yet or because of *error*."""
    return Command(
        task_id=job.task.task_id,
        generated_command=None,
        timestamp=now(),
        error=None if error is None else redacted(_one_line(error)),
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


def brought_up_to_date(command: Command, task: Task) -> Command:
    """*command* with the row's current fields: only the prompt had to be the same."""
    fields = _of_task(task)
    kept = {name: value for name, value in command.extra.items() if name not in _EXTRA}
    return replace(command, **{**fields, "extra": {**kept, **fields["extra"]}})


def _extra(task: Task) -> Iterator[tuple[str, Any]]:
    """The row's fields that execution without the dataset needs."""
    if task.tags:
        yield "tags", list(task.tags)
    for name in _EXTRA[1:]:
        value = getattr(task, name)
        if value is not None:
            yield name, value


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 500 else line[:497] + "..."
