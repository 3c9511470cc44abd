"""summary.json: the figures of a run, computed from the lines of results.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_shelleval.core.files import replace_file
from pytest_shelleval.core.stats import clustered_rate, pass_at_k, wilson_interval

Key = tuple[str, str, int]
"""Task id, model ("" if the file names none), sample."""


@dataclass(slots=True)
class Outcome:
    """The fields of one result that the summary needs."""

    status: str
    error_kind: str | None
    groups: tuple[str, ...]
    seconds: float
    reason: str
    reused: bool = False
    """Nothing was executed: the result of the same command was reused."""


@dataclass
class ResultCounts:
    """Counts results as they come. A later result for the same command replaces the earlier."""

    outcomes: dict[Key, Outcome] = field(default_factory=dict)
    usage: Counter[str] = field(default_factory=Counter)
    batch_usage: Counter[str] = field(default_factory=Counter)
    """The part of ``usage`` that was bought through the Batch API."""
    durations: Counter[str] = field(default_factory=Counter)
    sandboxes: dict[str, None] = field(default_factory=dict)
    """Image, or kind if there is none, of the sandboxes used, in order of appearance."""

    def add(self, record: Mapping[str, Any], reason: str = "") -> None:
        """Count one line of results.jsonl; *reason* says why it did not pass."""
        key = (record["task_id"], record.get("model") or "", record.get("sample") or 0)
        durations: Mapping[str, float] = record.get("durations") or {}
        if key not in self.outcomes:  # tokens are bought once, however often a command runs
            usage: Mapping[str, Any] = record.get("usage") or {}
            counts = {name: n for name, n in usage.items() if isinstance(n, int)}
            self.usage.update(counts)
            if record.get("inference") == "batch":
                self.batch_usage.update(counts)
        self.durations.update(durations)
        sandbox: Mapping[str, Any] = record.get("sandbox") or {}
        if name := sandbox.get("image") or sandbox.get("kind"):
            self.sandboxes[name] = None
        level = record.get("difficulty_level")
        tags = tuple(map(str, record.get("tags") or ()))
        groups = _groups(tags, None if level is None else str(level))
        self.outcomes[key] = Outcome(
            status=status_of(record),
            error_kind=record.get("error_kind"),
            groups=groups,
            seconds=sum(durations.values()),
            reason=reason,
            reused=record.get("reused_from") is not None,
        )

    def include(self, other: ResultCounts) -> None:
        """Add the counts of *other*, which are of other commands."""
        self.outcomes |= other.outcomes
        self.usage.update(other.usage)
        self.durations.update(other.durations)
        self.sandboxes |= other.sandboxes

    def count(self, status: str, model: str | None = None) -> int:
        """Commands with *status*, of *model* or of all."""
        return sum(
            outcome.status == status and model in (None, key[1])
            for key, outcome in self.outcomes.items()
        )

    @property
    def models(self) -> list[str]:
        """Models that have results, in order of appearance."""
        return list(dict.fromkeys(key[1] for key in self.outcomes))

    def error_kinds(self) -> dict[str, int]:
        """How many errors of each kind, the most common first."""
        kinds = Counter(
            outcome.error_kind or "other"
            for outcome in self.outcomes.values()
            if outcome.status == "error"
        )
        return dict(kinds.most_common())

    def by_group(self, prefix: str) -> dict[str, dict[str, Any]]:
        """Figures per tag (*prefix* ``tag``) or per difficulty level (``difficulty``)."""
        groups: dict[str, list[str]] = {}
        for outcome in self.outcomes.values():
            for group in outcome.groups:
                kind, _, name = group.partition(":")
                if kind == prefix:
                    groups.setdefault(name, []).append(outcome.status)
        return {
            name: rates(statuses.count("passed"), len(statuses), statuses.count("error"))
            for name, statuses in sorted(groups.items())
        }

    def task_rates(self, model: str | None = None, k: int = 1) -> tuple[list[float], int]:
        """pass@k of each task with at least *k* samples, and the number of independent draws.

        Errors count as samples that did not pass.
        """
        samples: dict[tuple[str, str], list[bool]] = {}
        for (task_id, name, _), outcome in self.outcomes.items():
            if model in (None, name):
                samples.setdefault((task_id, name), []).append(outcome.status == "passed")
        enough = [passed for passed in samples.values() if len(passed) >= k]
        rates = [pass_at_k(len(passed), sum(passed), k) for passed in enough]
        return rates, sum(len(passed) // k for passed in enough)

    def pass_at_k(self, model: str | None = None) -> dict[str, float]:
        """pass@1, pass@2, pass@5, ... up to the samples per task, the mean over the tasks.

        A task with fewer samples than k is left out.
        """
        counts = Counter((key[0], key[1]) for key in self.outcomes if model in (None, key[1]))
        most = max(counts.values(), default=0)
        ks = sorted({k for k in (1, 2, 5, 10, 20, 50, 100, most) if 1 <= k <= most})
        figures = {}
        for k in ks:
            rates, _ = self.task_rates(model, k)
            figures[str(k)] = sum(rates) / len(rates)
        return figures


def status_of(record: Mapping[str, Any]) -> str:
    """``passed``, ``failed`` or ``error``, also for lines of the script that this project replaces."""
    status = record.get("status")
    if status is not None:
        return str(status)
    if record.get("generated_command") is None:
        return "error" if record.get("raw_response") is None else "failed"
    return "passed" if record.get("overall_success") else "failed"


def rates(passed: int, total: int, errors: int) -> dict[str, Any]:
    """Pass rates by both denominators: all results, and those that have a verdict."""
    low, high = wilson_interval(passed, total)
    scored = total - errors
    return {
        "total": total,
        "passed": passed,
        "errors": errors,
        "scored": scored,
        "success_rate": passed / total if total else 0.0,
        "interval_95": [low, high],
        "scored_rate": passed / scored if scored else 0.0,
    }


@lru_cache(1024)
def _groups(tags: tuple[str, ...], level: str | None) -> tuple[str, ...]:
    """One object for all results of the same groups: there are many results and few groups."""
    groups = [f"tag:{tag}" for tag in tags]
    groups += [f"difficulty:{level}"] if level is not None else []
    return tuple(groups)


def summarize(counts: ResultCounts, *, total: int | None = None, **facts: Any) -> dict[str, Any]:
    """The object of summary.json.

    *total* is the number of commands that were selected to run (those with a result, if None);
    *facts* are fields that results.jsonl does not hold (``dataset_path``, ``settings``, ...).
    """
    recorded = len(counts.outcomes)
    total = recorded if total is None else total
    passed, errors = counts.count("passed"), counts.count("error")
    overall = rates(passed, total, errors + total - recorded)
    models = counts.models
    return {
        "model_name": ", ".join(filter(None, models)) or None,
        "dataset_path": None,
        "total_samples": total,
        "successful_samples": passed,
        "success_rate": overall["success_rate"],
        "failed_samples": total - passed,
        "evaluation_time": None,
        "sandbox_image": ", ".join(counts.sandboxes) or None,
        "errored_samples": errors,
        "scored_samples": recorded - errors,
        "scored_rate": overall["scored_rate"],
        "unrun_samples": total - recorded,
        "complete": recorded == total,
        "reused": sum(outcome.reused for outcome in counts.outcomes.values()),
        "interval_95": overall["interval_95"],
        "pass_at_k": counts.pass_at_k(),
        "by_model": {
            name or "unknown": rates(
                counts.count("passed", name),
                sum(key[1] == name for key in counts.outcomes),
                counts.count("error", name),
            )
            | {"interval_95": _clustered(counts, name), "pass_at_k": counts.pass_at_k(name)}
            for name in models
        },
        "by_tag": counts.by_group("tag"),
        "by_difficulty": counts.by_group("difficulty"),
        "by_error_kind": counts.error_kinds(),
        "usage": dict(counts.usage),
        "durations": {name: round(seconds, 3) for name, seconds in counts.durations.items()},
        **facts,
    }


def _clustered(counts: ResultCounts, model: str) -> list[float]:
    """The interval of a model's pass rate; samples of one task are not independent."""
    estimate = clustered_rate(*counts.task_rates(model))
    return [estimate.low, estimate.high]


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write *summary* to *path*. Raises UserError when it can't be written."""
    replace_file(path, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
