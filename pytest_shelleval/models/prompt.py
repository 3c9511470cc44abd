"""Renders a task as the messages for a model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Message

BUILT_IN_PROMPT = '{task}\n\nWrap the shell command in {"command":"[your_command_here]"}'
"""Worded as in the script that this project replaces, so that scores stay comparable."""

_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The prompt, with placeholders for a row's columns.

    ``{name}`` is replaced if *name* is a column of the row: ``task``, ``task_id``,
    ``setup_commands`` (one per line), ``success_condition``, ``gold_command``, ``tags``,
    ``difficulty_level``, and any other column of the dataset. A column that is empty in a row is
    replaced by nothing. All other braces are left unchanged, so JSON and shell need no escaping:
    neither ``{"command": ...}`` nor ``${HOME}`` is a placeholder. A ``{name}`` that is no column is
    left unchanged too, unless it looks like a misspelt column (``{taks}``, ``{Task}``): then
    :meth:`render` raises UserError. Placeholders in the values of columns are not replaced.
    """

    user: str = BUILT_IN_PROMPT
    system: str | None = None
    columns: frozenset[str] = frozenset()
    """Columns of the dataset: a placeholder for one that a row lacks becomes empty."""

    @classmethod
    def from_files(cls, prompt: Path | None, system: Path | None = None) -> PromptTemplate:
        """The template of these files; None for the built-in prompt, and for no system prompt.

        Raises UserError for a file that can't be read, is not UTF-8, is empty, or (the prompt) has
        no placeholder, so that the prompt would be the same for every task.
        """
        user = BUILT_IN_PROMPT if prompt is None else _read(prompt)
        if not _PLACEHOLDER.search(user):
            raise UserError(
                f"{prompt}: the prompt has no {{task}} in it; it would be the same for every task"
            )
        return cls(user, None if system is None else _read(system))

    @property
    def sha256(self) -> str:
        """Hex digest of the template, the same for every task."""
        return hashlib.sha256(json.dumps([self.user, self.system]).encode()).hexdigest()

    def render(self, task: Task) -> list[Message]:
        """The messages for *task*. Raises UserError if the template misspells a column."""
        columns = {**dict.fromkeys(self.columns), **_columns(task)}
        messages = [Message(role="user", content=_filled(self.user, columns))]
        if self.system is not None:
            messages.insert(0, Message(role="system", content=_filled(self.system, columns)))
        return messages


def prompt_hash(messages: Sequence[Message]) -> str:
    """First 16 hex digits of the SHA-256 of *messages*, which records keep of their prompt."""
    content = json.dumps([[message["role"], message["content"]] for message in messages])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"can't read the prompt {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the prompt is not UTF-8: {error}") from error
    text = text.replace("\r\n", "\n").rstrip()
    if not text:
        raise UserError(f"{path}: the prompt is empty")
    return text


def _columns(task: Task) -> dict[str, Any]:
    return {
        **task.metadata,
        "task": task.task,
        "task_id": task.task_id,
        "setup_commands": task.setup_commands,
        "success_condition": task.success_condition,
        "gold_command": task.gold_command,
        "tags": ", ".join(task.tags),
        "difficulty_level": task.difficulty_level,
    }


def _filled(template: str, columns: Mapping[str, Any]) -> str:
    def value(place: re.Match[str]) -> str:
        name = place[1]
        if name in columns:
            return _shown(columns[name])
        meant = _misspelt(name, columns)
        if meant is not None:
            raise UserError(
                f"the prompt says {{{name}}}, which is no column of the dataset; is {{{meant}}} meant?"
            )
        return place[0]

    return _PLACEHOLDER.sub(value, template)


def _misspelt(name: str, columns: Mapping[str, Any]) -> str | None:
    for column in columns:
        if sorted(name.lower()) == sorted(column.lower()):  # other case, letters swapped
            return column
    close = get_close_matches(name.lower(), list(columns), n=1, cutoff=0.85)
    return close[0] if close else None


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        return "\n".join(map(_shown, value))
    if isinstance(value, (dict, bool)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
