"""Phrases for outputs and paths in findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_shelleval.core.reasons import Reason, reason_of
from pytest_shelleval.sandboxes.defaults import START_DIRECTORY

_HOME = f"{START_DIRECTORY}/"
NAMED = 3
"""How many names of a list are shown."""


def some(names: Sequence[str]) -> str:
    """The first of *names*, and how many more there are; paths relative to the start directory."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(name.removeprefix(_HOME) for name in names[:NAMED]) + more


def reason_in(output: str | None, code: int | None) -> Reason:
    """The reason in *output* why something ended with *code*."""
    record = {
        "status": "failed",
        "generated_command": "",
        "command_output": output,
        "command_exit_code": code,
    }
    return reason_of(record) or Reason("exit", "it failed")


def paths_in(effects: Mapping[str, Any] | None, what: str) -> set[str]:
    """The paths that *effects* list under *what*: ``created``, ``changed``, ``deleted``."""
    return {entry["path"] for entry in (effects or {}).get(what, ())}
