"""Loads a run from its files: a light row per result, and whole records on request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import list_faults, locate_json_lines
from pytest_shelleval.core.ledger import RESULTS
from pytest_shelleval.core.reasons import Reason, reason_of
from pytest_shelleval.core.stats import Estimate, clustered_rate
from pytest_shelleval.core.summary import ResultCounts, status_of, summarize

SUMMARY = "summary.json"


@dataclass(slots=True)
class Row:
    """The part of a result that reports keep in memory; times in seconds."""

    task_id: str
    model: str
    """Empty if the file names none."""
    sample: int
    status: str
    reason: Reason | None
    error_kind: str | None
    tags: tuple[str, ...]
    level: str
    """``difficulty_level`` as text; empty for none."""
    task: str
    command: str
    durations: dict[str, float]
    latency: float | None
    tokens: dict[str, int]
    content: bytes
    """Digest of task, setup and condition."""
    prompt: str
    offset: int
    """Where the line starts in results.jsonl, in bytes."""

    @property
    def seconds(self) -> float:
        """Wall time in the sandbox, all steps."""
        return sum(self.durations.values())


@dataclass(slots=True)
class RecordedRun:
    """results.jsonl, read once, and the summary.json beside it if it is of the same run."""

    results: Path
    rows: list[Row]
    """Of several lines for the same task, model and sample, only the last. Rows are grouped by task,
    then by model and sample; tasks and models are in order of appearance."""
    counts: ResultCounts
    summary: dict[str, Any]
    """As in summary.json; counted from the results if that is missing or does not match."""
    summary_found: bool
    notes: list[str] = field(default_factory=list)
    """Reservations about the figures, a sentence each."""
    sandboxes: frozenset[str] = frozenset()
    """``kind image-or-rootfs`` of all results."""
    steps: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The folder's name, or the file's if that is not results.jsonl."""
        return self.results.parent.name if self.results.name == RESULTS else self.results.name

    @property
    def models(self) -> list[str]:
        """Models that have results, in order of appearance."""
        return self.counts.models

    @property
    def samples(self) -> int:
        """The most samples that a task has of one model."""
        return max((row.sample for row in self.rows), default=-1) + 1

    def records(self, rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
        """The whole record of each of *rows*, read from the file."""
        try:
            with self.results.open("rb") as file:
                for row in rows:
                    file.seek(row.offset)
                    record: dict[str, Any] = json.loads(file.readline())
                    yield record
        except (OSError, ValueError) as error:
            raise UserError(f"can't read {self.results}: {error}") from error


def results_file(path: Path) -> Path:
    """results.jsonl of *path*, a folder or the file itself. Raises UserError if it doesn't exist."""
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{file}: no such file; a run with --shelleval-phase=execution or both writes it"
        )
    return file


def load_run(path: Path, counted: ResultCounts | None = None) -> RecordedRun:
    """Load the run in *path*, a folder or a results.jsonl. Raises UserError if it can't be read.

    *counted* is the counts of all its results, if the caller has them already.
    """
    file = results_file(path)
    rows: dict[tuple[str, str, int], Row] = {}
    counts, sandboxes, steps, faults = (
        ResultCounts() if counted is None else counted,
        set(),
        set(),
        [],
    )
    for number, start, record in locate_json_lines(file):
        if record.get("task_id") is None:
            faults.append(f"{file}:{number}: field 'task_id' is missing")
            continue
        row = _row(record, start)
        rows[row.task_id, row.model, row.sample] = row
        if counted is None:
            counts.add({**record, "task_id": row.task_id}, row.reason.text if row.reason else "")
        sandbox: Mapping[str, Any] = record.get("sandbox") or {}
        if sandbox:
            where = sandbox.get("image") or sandbox.get("rootfs")
            sandboxes.add(" ".join(str(part) for part in (sandbox.get("kind"), where) if part))
        if record.get("steps"):
            steps.add(str(record["steps"]))
    if faults:
        raise UserError(list_faults(faults))
    tasks = {ident: n for n, ident in enumerate(dict.fromkeys(key[0] for key in rows))}
    models = {model: n for n, model in enumerate(counts.models)}
    summary, found, notes = _summary(file.with_name(SUMMARY), counts)
    return RecordedRun(
        results=file,
        rows=sorted(
            rows.values(), key=lambda row: (tasks[row.task_id], models[row.model], row.sample)
        ),
        counts=counts,
        summary=summary,
        summary_found=found,
        notes=notes,
        sandboxes=frozenset(sandboxes),
        steps=frozenset(steps),
    )


def pass_rate(counts: ResultCounts, model: str | None = None, k: int = 1) -> Estimate:
    """pass@k, the mean over the tasks, with its interval clustered by task."""
    return clustered_rate(*counts.task_rates(model, k))


@dataclass(frozen=True, slots=True)
class GroupRate:
    """The pass rate of one model on the tasks of one tag or difficulty level."""

    rate: Estimate
    passed: int
    total: int
    """Commands, errors included."""


def group_rates(counts: ResultCounts, by: str) -> dict[str, dict[str, GroupRate]]:
    """Figures per group and model; *by* is ``tag`` or ``difficulty``.

    Intervals are clustered by task. Groups are in the order of :func:`natural`.
    """
    shares: dict[str, dict[str, dict[str, list[bool]]]] = {}
    for (task_id, model, _), outcome in counts.outcomes.items():
        for group in outcome.groups:
            kind, _, name = group.partition(":")
            if kind == by:
                tasks = shares.setdefault(name, {}).setdefault(model, {})
                tasks.setdefault(task_id, []).append(outcome.status == "passed")
    return {
        name: {
            model: _group_rate(list(models[model].values()))
            for model in counts.models
            if model in models
        }
        for name, models in sorted(shares.items(), key=lambda each: natural(each[0]))
    }


def _group_rate(tasks: Sequence[Sequence[bool]]) -> GroupRate:
    total = sum(map(len, tasks))
    rate = clustered_rate([sum(passed) / len(passed) for passed in tasks], total)
    return GroupRate(rate, sum(map(sum, tasks)), total)


_LEVELS = ("trivial", "very easy", "easy", "medium", "normal", "hard", "very hard", "expert")


def natural(name: str) -> tuple[int, float, str]:
    """A sort key: numbers by value, known difficulty levels by level, the rest by name."""
    try:
        return 0, float(name), ""
    except ValueError:
        low = name.casefold()
        return (1, _LEVELS.index(low), "") if low in _LEVELS else (2, 0.0, low)


def _row(record: Mapping[str, Any], offset: int) -> Row:
    durations = {
        intern(str(name)): float(value)
        for name, value in (record.get("durations") or {}).items()
        if isinstance(value, (int, float))
    }
    tokens = {
        intern(name.removesuffix("_tokens")): count
        for name, count in (record.get("usage") or {}).items()
        if isinstance(count, int)
    }
    level, latency = record.get("difficulty_level"), record.get("latency_s")
    content = [record.get(name) for name in ("task", "setup_commands", "success_condition")]
    digest = hashlib.blake2b(json.dumps(content).encode(), digest_size=8).digest()
    return Row(
        task_id=str(record["task_id"]),
        model=intern(record.get("model") or ""),
        sample=record.get("sample") or 0,
        status=status_of(record),
        reason=reason_of(record),
        error_kind=record.get("error_kind"),
        tags=tuple(intern(str(tag)) for tag in record.get("tags") or ()),
        level="" if level is None else intern(str(level)),
        task=str(record.get("task") or ""),
        command=record.get("generated_command") or "",
        durations=durations,
        latency=latency if isinstance(latency, (int, float)) else None,
        tokens=tokens,
        content=digest,
        prompt=record.get("prompt_hash") or "",
        offset=offset,
    )


def _summary(path: Path, counts: ResultCounts) -> tuple[dict[str, Any], bool, list[str]]:
    """The summary in *path* if it is of the same results, else one computed from *counts*."""
    counted = summarize(counts)
    if not path.is_file():
        return counted, False, [f"There is no {SUMMARY}: the run may be incomplete."]
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return counted, False, [f"{SUMMARY} can't be read: figures come from {RESULTS} alone."]
    recorded = len(counts.outcomes)
    same = (
        isinstance(found, dict)
        and found.get("successful_samples") == counted["successful_samples"]
        and found.get("total_samples", 0) - found.get("unrun_samples", 0) == recorded
    )
    if not same:
        note = f"{SUMMARY} is of another run: figures come from {RESULTS} alone."
        return counted, False, [note]
    return {**counted, **found}, True, []
