"""Command: what a model wrote for a task; and commands.jsonl, where it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class Command:
    """One line of commands.jsonl. ``generated_command`` is None where generation failed."""

    task_id: str
    task: str
    setup_commands: list[str]
    success_condition: str
    generated_command: str | None
    timestamp: str
    """ISO 8601, UTC."""
    error: str | None = None
    """Why there is no command, one line."""
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
    attempts: int | None = None
    params: dict[str, Any] = field(default_factory=dict)
    """Sampling parameters of the request."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Fields that this version does not know; kept."""
