"""Command: what a model wrote for a task; and commands.jsonl, where it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import JsonLinesWriter, list_faults, read_json_lines
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
    """ISO 8601, UTC; empty in files made by hand that have none."""
    error: str | None = None
    """Why there is no command, one line. The model did answer where ``raw_response`` is not None."""
    model: str | None = None
    """None in files of the script that this project replaces."""
    sample: int = 0
    prompt_hash: str | None = None
    """First 16 hex digits of the SHA-256 of the rendered messages."""
    raw_response: str | None = None
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
    """Fields that this version does not know; kept. Phase 1 puts here what execution without the
    dataset needs of the row: ``tags``, ``difficulty_level``, ``timeout``, ``steps``, where set."""

    def to_record(self) -> dict[str, Any]:
        """The line as a JSON object: the replaced script's fields, ours, then ``extra``."""
        record = {name: getattr(self, name) for name in _FIELDS}
        if self.error is None:
            del record["error"]
        record.update((name, value) for name, value in self.extra.items() if name not in record)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any], where: str = "record") -> Command:
        """The command that *record*, a line's JSON object, holds. *where* names it in messages.

        Takes files of the replaced script too: our fields may be absent, ``setup_commands`` may be
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
    """*params* as they are recorded: without those that are None, which no request carries."""
    return {name: value for name, value in params.items() if value is not None}


_Exact = tuple[str, str | None, int, str | None, str]
_ANY = object()  # in a place of the index where any model will do


class CommandStore:
    """commands.jsonl: read once, looked up in memory, appended to line by line.

    A later line replaces an earlier one of the same task, model, sample, prompt and parameters.
    Not safe for use by several threads at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: dict[_Exact, Command] = {}
        self._good: dict[_Exact, Command] = {}
        self._index: dict[tuple[object, ...], _Exact] = {}
        self._by_id: dict[str, Command] = {}
        self._models: dict[str, None] = {}
        self._pairs: set[tuple[str, str | None, int]] = set()
        self._writer: JsonLinesWriter | None = None

    def load(self, *, must_exist: bool = False) -> None:
        """Read the file; one that is not there is empty, unless it *must_exist*.

        Raises UserError naming every broken line and field (the first 20).
        """
        if not must_exist and not self.path.exists():
            return
        faults: list[str] = []
        try:
            for number, record in read_json_lines(self.path):
                try:
                    self._keep(Command.from_record(record, f"{self.path}:{number}"))
                except UserError as error:
                    faults.extend(str(error).splitlines())
        except UserError as error:
            faults.extend(str(error).splitlines())
        if faults:
            raise UserError(list_faults(faults))

    def append(self, command: Command) -> None:
        """Write *command* to the file, then know it. Raises UserError when it can't be written."""
        if self._writer is None:
            self._writer = JsonLinesWriter(self.path)
        self._writer.write(command.to_record())
        self._keep(command)

    def cached(
        self,
        task_id: str,
        model: str,
        sample: int,
        prompt_hash: str | None,
        params: Mapping[str, Any],
    ) -> Command | None:
        """The command bought before for exactly this request; None where the last try failed."""
        command = self._last.get((task_id, model, sample, prompt_hash, _canonical(params)))
        return command if command is not None and command.generated_command is not None else None

    def for_execution(self, task: Task, model: str | None, sample: int) -> Command | None:
        """The record to execute: the last line for this task, model and sample.

        The last line says which prompt and parameters are in force; among the lines of those, the
        last with a command is taken before a later failure, so that a failed refresh never loses a
        command that was bought. *model* None takes any model. Where no line has the model, one
        without a model serves; where none has the task's id, one with the same task text and
        success condition (files made elsewhere).
        """
        by_text = (task.task, task.success_condition)
        wanted = (_ANY,) if model is None else (model, None)
        for key in [*((task.task_id, m) for m in wanted), *((*by_text, m) for m in wanted)]:
            exact = self._index.get((*key, sample))
            if exact is not None:
                return self._good.get(exact) or self._last[exact]
        return None

    def holds(self, command: Command) -> bool:
        """Whether the file already says what *command* says, so that appending it adds nothing.

        That is so where :meth:`for_execution` gives a record of the same request with the same task
        and the same outcome, whatever its time stamp.
        """
        exact = self._index.get((command.task_id, command.model, command.sample))
        if exact is None or exact != _exact(command):
            return False
        held = self._good.get(exact) or self._last[exact]
        return all(getattr(held, name) == getattr(command, name) for name in _WHAT_IT_SAYS)

    def models(self) -> list[str]:
        """Distinct model names, in the order in which they first appear in the file."""
        return list(self._models)

    @property
    def samples(self) -> int:
        """Samples per task that the file reaches: the highest number + 1; 0 for an empty file."""
        return max((sample for _, _, sample in self._pairs), default=-1) + 1

    def tasks(self) -> list[Task]:
        """The tasks that the records tell of, in file order: for execution without the dataset.

        Raises UserError naming records that make no task (an empty success condition, say).
        """
        rows = (
            Row(
                f"{self.path}: task {ident}",
                {**command.extra, **{name: getattr(command, name) for name in _OF_THE_TASK}},
            )
            for ident, command in self._by_id.items()
        )
        return build_tasks([rows])[0]

    def __len__(self) -> int:
        """Distinct pairs of task, model and sample, failed ones included."""
        return len(self._pairs)

    def close(self) -> None:
        """Close the file; may be repeated, and a later append opens it again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _keep(self, command: Command) -> None:
        ident, model, sample = command.task_id, command.model, command.sample
        exact = _exact(command)
        self._last[exact] = command
        if command.generated_command is not None:
            self._good[exact] = command
        for name in (model, _ANY):
            self._index[ident, name, sample] = exact
            self._index[safe_id(ident), name, sample] = exact  # of files made elsewhere
            self._index[command.task, command.success_condition, name, sample] = exact
        self._by_id[ident] = command
        self._pairs.add((ident, model, sample))
        if model is not None:
            self._models.setdefault(model)


def _exact(command: Command) -> _Exact:
    return (
        command.task_id,
        command.model,
        command.sample,
        command.prompt_hash,
        _canonical(command.params),
    )


def _canonical(params: Mapping[str, Any]) -> str:
    """*params* as a key: 1 and 1.0 are the same, None is as good as absent."""
    return json.dumps(
        {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in clean_params(params).items()
        },
        sort_keys=True,
        default=str,
    )
