"""Task: one row of a dataset, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Steps = Literal["separate", "shared"]
"""Which steps share the session; see :mod:`pytest_shelleval.core.execution`."""


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
    """Where the row stands, for messages: ``tasks.jsonl:12``."""
