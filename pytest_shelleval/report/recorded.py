"""Finds one result of a run by its name, with what is needed to run it again."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import read_json_lines
from pytest_shelleval.core.names import suffix
from pytest_shelleval.core.summary import Key, status_of
from pytest_shelleval.report.run import SUMMARY, results_file

_NEAR = 5


@dataclass(frozen=True, slots=True)
class Recorded:
    """One result."""

    name: str
    """The task's id, with model and sample if the run has several."""
    record: Mapping[str, Any]
    """Its line of results.jsonl."""
    settings: Mapping[str, Any]
    """The run's settings, from summary.json; empty without that file."""
    others: int
    """How many other results match the name."""


def find_recorded(path: Path, wanted: str) -> Recorded:
    """The result called *wanted* in *path*, a run's folder or its results.jsonl.

    *wanted* is a task's id, alone or with model and sample as in pytest's node ids, or such a node id.
    Of several results, the first that did not pass is returned. Raises UserError with similar names
    if there is none.
    """
    file = results_file(path)
    records: dict[Key, dict[str, Any]] = {}
    for _, record in read_json_lines(file):
        if record.get("task_id") is not None:
            key = str(record["task_id"]), record.get("model") or "", record.get("sample") or 0
            records[key] = record
    found = _matching(records, wanted) or _matching(records, wanted.rpartition("::")[2])
    several = len({key[1] for key in records}) > 1, len({key[2] for key in records}) > 1
    if not found:
        names = [key[0] for key in records] + [_name(key, *several) for key in records]
        raise UserError(_unknown(file, wanted, list(dict.fromkeys(names)), len(records)))
    key = next((each for each in found if status_of(records[each]) != "passed"), found[0])
    return Recorded(_name(key, *several), records[key], _settings(file), len(found) - 1)


def reproduction(results: str, name: str) -> str:
    """The command line that opens the sandbox of the result *name* of a run in *results*."""
    return shlex.join(["shelleval", "reproduce", results, name])


def _matching(records: Mapping[Key, Any], wanted: str) -> list[Key]:
    return [
        (task_id, model, sample)
        for task_id, model, sample in records
        if wanted.startswith(task_id)
        and wanted[len(task_id) :]
        in ("", suffix(model, None), suffix(None, sample), suffix(model, sample))
    ]


def _name(key: Key, several_models: bool, several_samples: bool) -> str:
    task_id, model, sample = key
    return task_id + suffix(model if several_models else None, sample if several_samples else None)


def _unknown(file: Path, wanted: str, names: list[str], count: int) -> str:
    near = [name for name in names if wanted in name or name in wanted][:_NEAR]
    near += difflib.get_close_matches(wanted, names, _NEAR, 0.5)
    said = ", ".join(list(dict.fromkeys(near))[:_NEAR])
    hint = f"; similar: {said}" if said else f", of {count:,} results"
    return f"{file} has no result {wanted!r}{hint}"


def _settings(file: Path) -> Mapping[str, Any]:
    try:
        settings = json.loads(file.with_name(SUMMARY).read_bytes())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}
