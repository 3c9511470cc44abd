"""Task: one validated row of a dataset; and how a task gets its id."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from sys import intern
from typing import Any, Literal, get_args

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import list_faults

Steps = Literal["separate", "shared"]
"""Which steps share the session; see :mod:`pytest_shelleval.core.execution`."""

# \w is Unicode's: letters of any script stay. `::` separates the parts of a node id.
_UNSAFE_IN_ID = re.compile(r"[^\w.+/@=,:-]+|::+|^:|:$")


@dataclass(frozen=True, slots=True)
class Task:
    """A sentence, how to prepare the sandbox, and how to tell that the command did it."""

    task_id: str
    """Unique in a run, stable when rows move, safe in a pytest node id."""
    task: str
    setup_commands: tuple[str, ...]
    success_condition: str
    gold_command: str | None = None
    tags: tuple[str, ...] = ()
    difficulty_level: str | int | float | None = None
    timeout: float | None = None
    """Seconds for the command, in place of the run's command timeout."""
    steps: Steps | None = None
    """In place of the run's ``steps``."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Every other column."""
    source: str = ""
    """The place of the row, for messages: ``tasks.jsonl:12``."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row as read, not yet validated."""

    where: str
    """``file:line`` for text files, ``file row N`` (from 1) for others."""
    fields: Mapping[str, Any]
    fault: str | None = None
    """Why the row could not be read, if so."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """One thing that is wrong with a row."""

    where: str
    """Like :attr:`Row.where`."""
    what: str
    """``task: missing``."""
    own_id: str | None = None
    """The row's own id, if it has a readable one."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def safe_id(text: str) -> str:
    """*text* made safe for a node id: no ``::``, white space, brackets or control characters.

    An id that had to be changed gets 4 hex digits of its hash, so that two ids that differ only in
    such characters stay distinct.
    """
    safe = _UNSAFE_IN_ID.sub("_", text)[:120]
    if safe != text:
        safe += "-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:4]
    return safe


def content_id(task: str, setup_commands: Iterable[str], success_condition: str) -> str:
    """The id of a row without one: 8 hex digits of a hash of its content."""
    content = json.dumps([task, list(setup_commands), success_condition])
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def build_tasks(
    datasets: Iterable[Iterable[Row]], *, max_samples: int | None = None
) -> list[list[Task]]:
    """The tasks of each dataset, only of its first *max_samples* rows if that is given.

    Equal rows without an id get ``-2``, ``-3``; an id used by two rows is a fault, also across
    datasets. Raises UserError that names every fault by file, line and field.
    """
    tasks, faults = sift_tasks(datasets, max_samples=max_samples)
    if faults:
        raise UserError(list_faults([str(fault) for fault in faults]))
    return tasks


def sift_tasks(
    datasets: Iterable[Iterable[Row]], *, max_samples: int | None = None
) -> tuple[list[list[Task]], list[RowFault]]:
    """Like :func:`build_tasks`, but returns the valid tasks and the faults of the other rows."""
    builder = _Builder()
    tasks = [
        [task for row in _first(rows, max_samples) for task in builder.build(row)]
        for rows in datasets
    ]
    return tasks, builder.faults


class _Builder:
    """Builds tasks and remembers the ids in use."""

    def __init__(self) -> None:
        self.faults: list[RowFault] = []
        self._sources: dict[str, str] = {}

    def build(self, row: Row) -> list[Task]:
        """The task of *row*, or none when there are faults."""
        if row.fault is not None:
            self.faults.append(RowFault(row.where, row.fault.removeprefix(f"{row.where}: ")))
            return []
        checked = _Checked(row)
        task = checked.task()
        if task is not None and task.task_id in self._sources:
            if checked.own_id is None:
                task = replace(task, task_id=self._numbered(task.task_id))
            else:
                checked.faults.append(
                    f"{checked.own_id_field}: {checked.own_id!r} is also the id of "
                    f"{self._sources[task.task_id]}; ids must differ over all datasets of a run"
                )
        self.faults += [RowFault(row.where, what, checked.own_id) for what in checked.faults]
        if task is None or checked.faults:
            return []
        self._sources[task.task_id] = row.where
        return [task]

    def _numbered(self, task_id: str) -> str:
        number = 2
        while f"{task_id}-{number}" in self._sources:
            number += 1
        return f"{task_id}-{number}"


def _first(rows: Iterable[Row], count: int | None) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if count is not None and number >= count:
            return
        yield row


class _Checked:
    """Validates one row field by field and collects its faults."""

    _KNOWN = frozenset(
        {
            "task",
            "task_id",
            "id",
            "setup_commands",
            "success_condition",
            "gold_command",
            "tags",
            "difficulty_level",
            "timeout",
            "steps",
        }
    )

    def __init__(self, row: Row) -> None:
        self.row = row
        self.faults: list[str] = []
        self.own_id_field = "task_id" if row.fields.get("task_id") is not None else "id"
        self.own_id: str | None = None

    def task(self) -> Task | None:
        """The task, or None when there are faults."""
        fields = self.row.fields
        sentence = self._text("task", required=True)
        setup = self._setup()
        condition = self._text("success_condition", required=True)
        gold = self._text("gold_command", required=False)
        self.own_id = self._id()
        tags = self._tags()
        level = self._level()
        timeout = self._timeout()
        steps = self._steps()
        if self.faults or sentence is None or condition is None:
            return None
        return Task(
            task_id=safe_id(self.own_id)
            if self.own_id is not None
            else content_id(sentence, setup, condition),
            task=sentence,
            setup_commands=setup,
            success_condition=condition,
            gold_command=gold,
            tags=tags,
            difficulty_level=level,
            timeout=timeout,
            steps=steps,
            metadata={
                name: value
                for name, value in fields.items()
                if name not in self._KNOWN and value is not None
            },
            source=self.row.where,
        )

    def _fault(self, name: str, what: str) -> None:
        self.faults.append(f"{name}: {what}")

    def _string(self, name: str, value: str) -> str | None:
        if _lone_surrogate(value):
            self._fault(name, "half of a surrogate pair (\\ud800 to \\udfff); no text has that")
            return None
        return value

    def _text(self, name: str, *, required: bool) -> str | None:
        value = self.row.fields.get(name)
        if value is None:
            if required:
                self._fault(name, "missing")
            return None
        if not isinstance(value, str):
            self._fault(name, f"a string is expected, not {_kind(value)}")
            return None
        if not value.strip():
            if required:
                self._fault(name, "empty")
            return None
        return self._string(name, value)

    def _setup(self) -> tuple[str, ...]:
        name = "setup_commands"
        value = self.row.fields.get(name)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,) if value.strip() and self._string(name, value) is not None else ()
        if not isinstance(value, (list, tuple)):
            self._fault(name, f"a list of strings or a string is expected, not {_kind(value)}")
            return ()
        for number, item in enumerate(value, 1):
            if not isinstance(item, str):
                self._fault(name, f"item {number}: a string is expected, not {_kind(item)}")
                return ()
            if self._string(f"{name}, item {number}", item) is None:
                return ()
        return tuple(value)

    def _id(self) -> str | None:
        value = self.row.fields.get(self.own_id_field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            self._fault(self.own_id_field, f"a string or number is expected, not {_kind(value)}")
            return None
        return str(value) if str(value).strip() else None

    def _tags(self) -> tuple[str, ...]:
        value = self.row.fields.get("tags")
        if value is None:
            return ()
        if isinstance(value, str):
            value = [tag.strip() for tag in value.split(",") if tag.strip()]
        if not isinstance(value, (list, tuple)) or not all(isinstance(tag, str) for tag in value):
            self._fault("tags", f"a list of strings is expected, not {_kind(value)}")
            return ()
        return tuple(map(intern, value))  # even a large dataset has few distinct tags

    def _level(self) -> str | int | float | None:
        value = self.row.fields.get("difficulty_level")
        if isinstance(value, str):
            return intern(value)
        if value is None or isinstance(value, (int, float)):
            return value
        self._fault("difficulty_level", f"a string or number is expected, not {_kind(value)}")
        return None

    def _timeout(self) -> float | None:
        value = self.row.fields.get("timeout")
        if value is None or value == "":
            return None
        try:
            seconds = float("x" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self._fault("timeout", f"seconds, more than 0, are expected, not {value!r}")
            return None
        return seconds

    def _steps(self) -> Steps | None:
        value = self.row.fields.get("steps")
        if value is None or value == "":
            return None
        for steps in get_args(Steps):
            if value == steps:
                return steps  # type: ignore[no-any-return]
        self._fault("steps", f"separate or shared is expected, not {value!r}")
        return None


def _lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    """What JSON calls the type of *value*."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
