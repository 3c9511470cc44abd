"""Command: what a model wrote for a task; and commands.jsonl, the file of commands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import (
    JsonLinesReader,
    JsonLinesWriter,
    list_faults,
    locate_json_lines,
)
from pytest_shelleval.core.tasks import Row, Task, build_tasks, safe_id


@dataclass(slots=True, kw_only=True)
class Command:
    """One line of commands.jsonl. ``generated_command`` is None where generation failed."""

    task_id: str
    task: str
    setup_commands: list[str]
    success_condition: str
    generated_command: str | None
    timestamp: str
    """ISO 8601, UTC; empty if the file, made by hand, has none."""
    error: str | None = None
    """Why there is no command, one line. :attr:`answered` says whether the model replied."""
    model: str | None = None
    """None in files of the script that this project replaces."""
    sample: int = 0
    prompt_hash: str | None = None
    """First 16 hex digits of the SHA-256 of the rendered messages."""
    raw_response: str | None = None
    command_from: str | None = None
    """Where the command comes from: ``model`` (from a tool call or the model's own code),
    ``hook`` (pytest_shelleval_extract found it), or the rule that found it in ``raw_response``."""
    reasoning: str | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    """``input_tokens``, ``output_tokens``."""
    latency_s: float | None = None
    """Wall seconds from asking to the reply, retries included."""
    attempts: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters of the request."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other fields; those that this version does not know are kept. Phase 1 adds the row's fields
    that execution without the dataset needs (``tags``, ``difficulty_level``, ``timeout``, ``steps``,
    if set); ``inference`` = ``batch`` if the reply came through the Batch API, at its lower price;
    and ``unaccounted_usage``, the most tokens that attempts without a plausible ``usage`` can have
    used."""

    @property
    def answered(self) -> bool:
        """Whether the model answered. The answer is final, even one without a command."""
        if self.generated_command is not None:
            return True
        # earlier versions kept the partial reply of a server that failed half-way
        return self.raw_response is not None and self.finish_reason != PROVIDER_ERROR

    def to_record(self) -> dict[str, Any]:
        """The line as a JSON object: the replaced script's fields, ours, then ``extra``."""
        record = {name: getattr(self, name) for name in _FIELDS}
        if self.error is None:
            del record["error"]
        record.update((name, value) for name, value in self.extra.items() if name not in record)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], where: str = "record") -> Command:
        """The command of *record*, a line's JSON object. *where* is its place, for messages.

        Accepts files of the replaced script too: our fields may be absent, ``setup_commands`` may be
        one string or null, ``task_id`` a number. Raises UserError naming every wrong field.
        """
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name, (types, expected) in _FIELDS.items():
            value = record.get(name)
            if name in _REQUIRED and name not in record:
                faults.append(f"{where}: field {name!r} is missing")
            elif value is None and name not in _NEVER_NULL:
                continue
            elif not isinstance(value, types) or isinstance(value, bool):
                faults.append(f"{where}: field {name!r}: {expected} expected, not {_shown(value)}")
            else:
                values[name] = value
        setup = values.get("setup_commands", [])
        if isinstance(setup, list) and not all(isinstance(item, str) for item in setup):
            faults.append(f"{where}: field 'setup_commands': a list of strings expected")
        if faults:
            raise UserError(list_faults(faults))
        values["task_id"] = str(values["task_id"])
        values["setup_commands"] = [setup] if isinstance(setup, str) else list(setup)
        values.setdefault("generated_command", None)
        values.setdefault("timestamp", "")
        extra = {name: value for name, value in record.items() if name not in _FIELDS}
        return cls(**values, extra=extra)


PROVIDER_ERROR = "error"
"""The ``finish_reason`` of a reply that the server, not the model, cut short."""

_TEXT: tuple[tuple[type, ...], str] = ((str,), "a string")
_WHOLE: tuple[tuple[type, ...], str] = ((int,), "a whole number")
_OBJECT: tuple[tuple[type, ...], str] = ((dict,), "an object")

_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {  # in the order of the file
    "task_id": ((str, int), "a string"),
    "task": _TEXT,
    "setup_commands": ((list, str), "a list of strings"),
    "success_condition": _TEXT,
    "generated_command": _TEXT,
    "timestamp": _TEXT,
    "error": _TEXT,
    "model": _TEXT,
    "sample": _WHOLE,
    "prompt_hash": _TEXT,
    "raw_response": _TEXT,
    "command_from": _TEXT,
    "reasoning": _TEXT,
    "finish_reason": _TEXT,
    "usage": _OBJECT,
    "latency_s": ((int, float), "a number"),
    "attempts": _WHOLE,
    "params": _OBJECT,
}
_OF_THE_TASK = ("task_id", "task", "setup_commands", "success_condition")
_WHAT_IT_SAYS = (*_OF_THE_TASK, "generated_command", "error", "extra")
_REQUIRED = frozenset({"task_id", "task", "success_condition", "generated_command"})
_NEVER_NULL = _REQUIRED - {"generated_command"}


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def clean_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """*params* as recorded: without those that are None, which are not sent."""
    return {name: value for name, value in params.items() if value is not None}


_Pair = tuple[str, str | None, int]
"""Task id, model, sample."""


@dataclass(slots=True)
class _Lines:
    """Index of one request's lines: its prompt and parameters, and byte offsets in the file."""

    prompt_hash: str | None
    params: str
    """As :func:`_canonical` returns them."""
    last: int
    answer: int
    """The last line that the model answered; -1 for none."""


class CommandStore:
    """commands.jsonl, with look-up by task and request; appended to line by line.

    A later line replaces an earlier one of the same task, model, sample, prompt and parameters.
    Replies can be long, so memory holds only the offset of each line, some 500 bytes with the index.
    Not thread-safe.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pairs: dict[_Pair, list[_Lines]] = {}  # the request in force comes last
        self._safe_ids: dict[str, str] = {}  # safe id to id, of files made elsewhere
        self._by_text: dict[tuple[bytes, str | None, int], _Pair] | None = None
        self._models: dict[str, None] = {}
        self._samples = 0
        self._reader: JsonLinesReader | None = None
        self._writer: JsonLinesWriter | None = None

    def load(self, *, must_exist: bool = False) -> None:
        """Read the file; a missing one counts as empty, unless it *must_exist*.

        Raises UserError naming every broken line and field (the first 20).
        """
        if not must_exist and not self.path.exists():
            return
        faults: list[str] = []
        try:
            for number, offset, record in locate_json_lines(self.path):
                try:
                    self._keep(Command.from_record(record, f"{self.path}:{number}"), offset)
                except UserError as error:
                    faults.extend(str(error).splitlines())
        except UserError as error:
            faults.extend(str(error).splitlines())
        if faults:
            raise UserError(list_faults(faults))

    def append(self, command: Command) -> None:
        """Write *command* to the file and add it to the index. Raises UserError if that fails."""
        if self._writer is None:
            self._writer = JsonLinesWriter(self.path, follow=True)
        self._keep(command, self._writer.write(command.to_record()))

    def cached(
        self,
        task_id: str,
        model: str,
        sample: int,
        prompt_hash: str | None,
        params: Mapping[str, Any],
    ) -> Command | None:
        """The stored answer to exactly this request; None if its last try got no answer."""
        wanted = prompt_hash, _canonical(params)
        for lines in self._pairs.get((task_id, model, sample), ()):
            if (lines.prompt_hash, lines.params) == wanted and lines.answer == lines.last:
                return self._read(lines.answer)
        return None

    def for_execution(self, task: Task, model: str | None, sample: int) -> Command | None:
        """The record to execute: the last line for this task, model and sample.

        The last line decides which prompt and parameters are in force; among their lines, the last
        answer of the model wins over a later line without one, so that a failed refresh never loses
        an answer already paid for. *model* None matches any model. If no line has the model, a line
        without a model is used; if none has the task's id, one with the same task text and success
        condition (files made elsewhere).
        """
        pair = self.pair_for(task, model, sample)
        if pair is None:
            return None
        lines = self._pairs[pair][-1]
        return self._read(lines.last if lines.answer < 0 else lines.answer)

    def pair_for(self, task: Task, model: str | None, sample: int) -> _Pair | None:
        """Task id, model and sample, as in the file, of the record that :meth:`for_execution` returns."""
        wanted = [None, *self._models] if model is None else [model]
        found = self._last_of((task.task_id, each, sample) for each in wanted)
        if found is None and model is not None:
            found = self._last_of([(task.task_id, None, sample)])
        if found is None and self._pairs:
            found = self._last_of(self._same_text(task, wanted, sample))
            if found is None and model is not None:
                found = self._last_of(self._same_text(task, [None], sample))
        return found

    def holds(self, command: Command) -> bool:
        """Whether the file already has *command*, so that appending it would add nothing.

        That is: :meth:`for_execution` returns a record of the same request, task and outcome,
        whatever its time stamp.
        """
        pair = self._last_of([(command.task_id, command.model, command.sample)])
        if pair is None:
            return False
        lines = self._pairs[pair][-1]
        if (lines.prompt_hash, lines.params) != (command.prompt_hash, _canonical(command.params)):
            return False
        held = self._read(lines.last if lines.answer < 0 else lines.answer)
        return all(getattr(held, name) == getattr(command, name) for name in _WHAT_IT_SAYS)

    def lines(self) -> Iterator[Command]:
        """Every line of the file, replaced ones included; reads the file again."""
        if self.path.exists():
            for number, _, record in locate_json_lines(self.path):
                yield Command.from_record(record, f"{self.path}:{number}")

    def models(self) -> list[str]:
        """Distinct model names, in the order in which they first appear in the file."""
        return list(self._models)

    @property
    def samples(self) -> int:
        """Samples per task in the file: the highest sample number + 1; 0 for an empty file."""
        return self._samples

    def tasks(self) -> list[Task]:
        """The tasks of the records, in file order: for execution without the dataset.

        Raises UserError naming records that are no valid task (an empty success condition, say).
        """
        last: dict[str, int] = {}
        for (ident, _, _), versions in self._pairs.items():
            last[ident] = max(last.get(ident, 0), versions[-1].last)
        rows = (self._row(ident, offset) for ident, offset in last.items())
        return build_tasks([rows])[0]

    def __len__(self) -> int:
        """Distinct pairs of task, model and sample, failed ones included."""
        return len(self._pairs)

    def close(self) -> None:
        """Close the file; may be repeated. A later append or look-up opens it again."""
        for file in (self._writer, self._reader):
            if file is not None:
                file.close()
        self._writer = self._reader = None

    def _keep(self, command: Command, offset: int) -> None:
        model = None if command.model is None else intern(command.model)
        pair = command.task_id, model, command.sample
        request = command.prompt_hash, intern(_canonical(command.params))
        versions = self._pairs.setdefault(pair, [])
        for number, lines in enumerate(versions):
            if (lines.prompt_hash, lines.params) == request:
                versions.append(versions.pop(number))
                break
        else:
            versions.append(_Lines(*request, offset, -1))
        versions[-1].last = offset
        if command.answered:
            versions[-1].answer = offset
        safe = safe_id(command.task_id)
        if safe != command.task_id:
            self._safe_ids[safe] = command.task_id
        if self._by_text is not None:
            self._by_text[_text_key(command), model, command.sample] = pair
        self._samples = max(self._samples, command.sample + 1)
        if model is not None:
            self._models.setdefault(model)

    def _read(self, offset: int) -> Command:
        if self._reader is None:
            self._reader = JsonLinesReader(self.path)
        return Command.from_record(self._reader.read(offset), str(self.path))

    def _row(self, ident: str, offset: int) -> Row:
        command = self._read(offset)
        fields = {**command.extra, **{name: getattr(command, name) for name in _OF_THE_TASK}}
        return Row(f"{self.path}: task {ident}", fields)

    def _last_of(self, pairs: Iterable[_Pair]) -> _Pair | None:
        """The one of *pairs* whose line comes last in the file; None if the file has none."""
        known = []
        for ident, model, sample in pairs:
            for each in (ident, self._safe_ids.get(ident)):
                if each is not None and (each, model, sample) in self._pairs:
                    known.append((each, model, sample))
        return max(known, key=lambda pair: self._pairs[pair][-1].last, default=None)

    def _same_text(self, task: Task, models: Iterable[str | None], sample: int) -> Iterator[_Pair]:
        """Entries with the text and condition of *task*; the first call reads the file again."""
        if self._by_text is None:
            self._by_text = {}
            for pair, versions in sorted(self._pairs.items(), key=lambda each: each[1][-1].last):
                command = self._read(versions[-1].last)
                _, model, number = pair
                self._by_text[_text_key(command), model, number] = pair
        for model in models:
            found = self._by_text.get((_text_key(task), model, sample))
            if found is not None:
                yield found


def _text_key(said: Task | Command) -> bytes:
    text = json.dumps([said.task, said.success_condition])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _canonical(params: Mapping[str, Any]) -> str:
    """*params* as a key: 1 and 1.0 are the same, None is the same as absent."""
    return json.dumps(
        {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in clean_params(params).items()
        },
        sort_keys=True,
        default=str,
    )
