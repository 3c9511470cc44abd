"""Compares two runs of the same tasks: what was fixed, what broke, whether it is significant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.stats import (
    Estimate,
    clustered_difference,
    mcnemar_exact,
    paired_difference,
)
from pytest_shelleval.report.run import RecordedRun, Row, load_run
from pytest_shelleval.report.words import count, cut, p_text, percent, points, wrapped

Kind = Literal[
    "broken",
    "fixed",
    "flaky",
    "no_verdict",
    "still_failing",
    "still_passing",
    "changed",
    "new",
    "gone",
]
KINDS: dict[Kind, str] = {
    "broken": "broken",
    "fixed": "fixed",
    "flaky": "flaky",
    "no_verdict": "no verdict",
    "still_failing": "still failing",
    "still_passing": "still passing",
    "changed": "task changed",
    "new": "new",
    "gone": "gone",
}
"""The kinds in display order, with their labels."""
ALPHA = 0.05
"""Below this p value a difference is called significant."""


@dataclass(frozen=True, slots=True)
class Share:
    """The results of one task's samples in one run."""

    passed: int
    failed: int
    errors: int

    @property
    def scored(self) -> int:
        """Samples with a verdict."""
        return self.passed + self.failed

    @property
    def rate(self) -> float:
        """Share of passes among samples with a verdict; 0 if there are none."""
        return self.passed / self.scored if self.scored else 0.0

    def __str__(self) -> str:
        if self.passed + self.failed + self.errors == 1:
            return "passed" if self.passed else "failed" if self.failed else "error"
        errors = f" and {count(self.errors, 'error')}" if self.errors else ""
        return f"{self.passed} of {self.scored}{errors}"


@dataclass(frozen=True, slots=True)
class Change:
    """One task in the two runs; None for a run that does not have it."""

    task_id: str
    kind: Kind
    a: Share | None
    b: Share | None
    reason: str = ""
    """Why it does not pass in b, one line."""


@dataclass(slots=True)
class ModelComparison:
    """The comparison of one model in a with one model in b.

    The statistics cover the tasks that have a verdict in both runs and did not change in between.
    """

    model_a: str
    model_b: str
    changes: list[Change]
    difference: Estimate
    """Pass rate of b minus that of a."""
    p_value: float
    rate_a: float
    rate_b: float
    tasks: int
    """Tasks behind the statistics."""
    method: str
    """How interval and p value were computed."""

    @property
    def significant(self) -> bool:
        """Whether the difference is more than chance explains, at the 5 % level."""
        return self.p_value < ALPHA

    @property
    def counts(self) -> dict[Kind, int]:
        """The number of tasks of each kind that occurs, in the order of :data:`KINDS`."""
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def of_kind(self, *kinds: Kind) -> list[Change]:
        """The tasks of *kinds*."""
        return [change for change in self.changes if change.kind in kinds]


@dataclass(slots=True)
class Comparison:
    """Run a, the earlier or baseline, against run b. See :func:`compare`."""

    a: RecordedRun
    b: RecordedRun
    models: list[ModelComparison]
    differences: list[str] = field(default_factory=list)
    """Why the runs are not comparable, a line each."""

    @property
    def comparable(self) -> bool:
        """Whether the runs are of the same dataset, sandbox, steps and prompt."""
        return not self.differences

    def lines(self, *, shown: int = 20) -> Iterator[str]:
        """The comparison as text for 80 columns, with *shown* tasks of a kind at most."""
        yield cut(f"a: {self.a.results}")
        yield cut(f"b: {self.b.results}")
        for difference in self.differences:
            yield from wrapped("NOT COMPARABLE: " + difference)
        for note in (*(f"a: {n}" for n in self.a.notes), *(f"b: {n}" for n in self.b.notes)):
            yield from wrapped(f"note: {note}")
        for pair in self.models:
            yield ""
            yield from _pair_lines(pair, shown)

    def to_json(self) -> dict[str, Any]:
        """The comparison as a JSON object; rates and differences are fractions."""
        return {
            "a": str(self.a.results),
            "b": str(self.b.results),
            "comparable": self.comparable,
            "differences": self.differences,
            "models": [_pair_json(pair) for pair in self.models],
        }


def compare(a: Path, b: Path) -> Comparison:
    """Compare the runs in *a* and *b*, folders or results.jsonl files; *a* is the earlier.

    Models are paired by name; if no name is in both and each run has one model, those two are
    paired. Raises UserError if a file can't be read or no models can be paired.
    """
    return compare_runs(load_run(a), load_run(b))


def compare_runs(a: RecordedRun, b: RecordedRun) -> Comparison:
    """Compare two runs that are loaded. Raises UserError when no models can be paired."""
    pairs = _pair_models(a, b)
    compared = [_compare_models(a, b, *pair) for pair in pairs]
    return Comparison(a, b, compared, list(_differences(a, b, pairs)))


def _pair_models(a: RecordedRun, b: RecordedRun) -> list[tuple[str, str]]:
    both = [(name, name) for name in b.models if name in a.models]
    if both:
        return both
    if len(a.models) == len(b.models) == 1:
        return [(a.models[0], b.models[0])]
    raise UserError(
        f"no model is in both runs: {a.results} has {', '.join(a.models) or 'no results'}, "
        f"{b.results} has {', '.join(b.models) or 'no results'}"
    )


def _by_task(run: RecordedRun, model: str) -> dict[str, list[Row]]:
    tasks: dict[str, list[Row]] = {}
    for row in run.rows:
        if row.model == model:
            tasks.setdefault(row.task_id, []).append(row)
    return tasks


def _share(rows: Sequence[Row]) -> Share:
    found = Counter(row.status for row in rows)
    return Share(found["passed"], found["failed"], len(rows) - found["passed"] - found["failed"])


def _compare_models(a: RecordedRun, b: RecordedRun, model_a: str, model_b: str) -> ModelComparison:
    tasks_a, tasks_b = _by_task(a, model_a), _by_task(b, model_b)
    changes: list[Change] = []
    for task_id, rows in tasks_b.items():
        before = tasks_a.get(task_id)
        reason = next((row.reason.text for row in rows if row.reason), "")
        share_b, share_a = _share(rows), _share(before) if before else None
        kind: Kind = "new"
        if before is not None and share_a is not None:
            same = before[0].content == rows[0].content
            kind = _kind(share_a, share_b) if same else "changed"
        changes.append(Change(task_id, kind, share_a, share_b, reason))
    for task_id, rows in tasks_a.items():
        if task_id not in tasks_b:
            changes.append(Change(task_id, "gone", _share(rows), None))
    order = {kind: number for number, kind in enumerate(KINDS)}
    changes.sort(key=lambda change: order[change.kind])
    return _with_statistics(model_a, model_b, changes)


def _kind(a: Share, b: Share) -> Kind:
    if not a.scored or not b.scored:
        return "no_verdict"
    if any(0 < share.passed < share.scored for share in (a, b)):
        return "flaky"
    if a.passed and b.passed:
        return "still_passing"
    if not a.passed and not b.passed:
        return "still_failing"
    return "broken" if a.passed else "fixed"


def _with_statistics(model_a: str, model_b: str, changes: list[Change]) -> ModelComparison:
    unpaired = ("no_verdict", "changed", "new", "gone")
    shares = [
        (change.a, change.b)
        for change in changes
        if change.kind not in unpaired and change.a is not None and change.b is not None
    ]
    tasks = len(shares)
    if all(a.scored == b.scored == 1 for a, b in shares):
        found = Counter((bool(a.passed), bool(b.passed)) for a, b in shares)
        only_a, only_b = found[True, False], found[False, True]
        difference = paired_difference(found[True, True], only_a, only_b, found[False, False])
        p_value = mcnemar_exact(only_a, only_b)
        method = "Newcombe's paired interval, McNemar's exact test"
    else:
        difference, p_value = clustered_difference([b.rate - a.rate for a, b in shares])
        method = "paired t interval and test over tasks"
    return ModelComparison(
        model_a=model_a,
        model_b=model_b,
        changes=changes,
        difference=difference,
        p_value=p_value,
        rate_a=sum(a.rate for a, _ in shares) / tasks if tasks else 0.0,
        rate_b=sum(b.rate for _, b in shares) / tasks if tasks else 0.0,
        tasks=tasks,
        method=method,
    )


def _differences(a: RecordedRun, b: RecordedRun, pairs: list[tuple[str, str]]) -> Iterator[str]:
    """Why the runs are not comparable, a line each."""
    for which, run in (("earlier", a), ("later", b)):
        if not run.summary.get("complete", True):
            unrun = run.summary.get("unrun_samples")
            yield f"the {which} run is partial: {unrun} of its commands were not run"
    hash_a, hash_b = (str(run.summary.get("dataset_sha256") or "") for run in (a, b))
    content_a = {row.task_id: row.content for row in a.rows}
    content_b = {row.task_id: row.content for row in b.rows}
    shared = content_a.keys() & content_b.keys()
    changed = sum(content_a[task] != content_b[task] for task in shared)
    if hash_a and hash_b and hash_a != hash_b:
        yield (
            f"different dataset (sha256 {hash_a[:8]} and {hash_b[:8]}): "
            f"{count(len(shared), 'task')} in both, {changed} of which differ"
        )
    elif changed:
        yield f"different dataset: {changed} of {len(shared)} tasks differ"
    for what, in_a, in_b in (
        ("sandbox", a.sandboxes, b.sandboxes),
        ("steps", a.steps, b.steps),
    ):
        if in_a and in_b and in_a != in_b:
            yield f"different {what}: {', '.join(sorted(in_a))} and {', '.join(sorted(in_b))}"
    prompts_a, prompts_b = (
        {(row.model, row.task_id): row.prompt for row in run.rows if row.prompt} for run in (a, b)
    )
    asked = [
        (prompts_a[model_a, task], prompts_b[model_b, task])
        for model_a, model_b in pairs
        for task in content_a
        if content_a[task] == content_b.get(task)
        and (model_a, task) in prompts_a
        and (model_b, task) in prompts_b
    ]
    other = sum(one != two for one, two in asked)
    if other:
        yield f"different prompt: {other} of {len(asked)} tasks were asked with another prompt"


# -- as text --------------------------------------------------------------------------------------


def title(pair: ModelComparison) -> str:
    """The model's name, or both names if they differ."""
    a, b = pair.model_a or "unknown", pair.model_b or "unknown"
    return a if a == b else f"{a} and {b}"


_NAMED: tuple[Kind, ...] = ("broken", "fixed", "flaky", "no_verdict", "changed", "new", "gone")


def _pair_lines(pair: ModelComparison, shown: int) -> Iterator[str]:
    yield from wrapped(
        f"{title(pair)}: {percent(pair.rate_a)} before, {percent(pair.rate_b)} now, "
        f"of {count(pair.tasks, 'task')} with a verdict in both"
    )
    if pair.tasks:
        yield f"  difference {points(pair.difference)}"
        verdict = "significant" if pair.significant else "not significant"
        yield from wrapped(f"{p_text(pair.p_value)}, {verdict} at 5 % ({pair.method})", "  ")
    counts = ", ".join(f"{KINDS[kind]} {number}" for kind, number in pair.counts.items())
    yield from wrapped(counts, "  ")
    for kind in _NAMED:
        changes = pair.of_kind(kind)
        left_out = f"... and {len(changes) - shown} more" if len(changes) > shown else ""
        if kind in ("fixed", "changed", "new", "gone") and changes:
            names = [change.task_id for change in changes[:shown]]
            yield from wrapped(f"{KINDS[kind]}: {', '.join(names)} {left_out}".rstrip(), "  ")
        elif changes:
            yield f"  {KINDS[kind]}:"
            for change in changes[:shown]:
                said = change.reason
                if kind != "broken":
                    said = f"{change.a} before, {change.b} now"
                yield cut(f"    {change.task_id}  {said}")
            if left_out:
                yield f"    {left_out}"


def _pair_json(pair: ModelComparison) -> dict[str, Any]:
    return {
        "model_a": pair.model_a or None,
        "model_b": pair.model_b or None,
        "tasks": pair.tasks,
        "rate_a": pair.rate_a,
        "rate_b": pair.rate_b,
        "difference": pair.difference.value,
        "difference_interval_95": [pair.difference.low, pair.difference.high],
        "p_value": pair.p_value,
        "significant": pair.significant,
        "method": pair.method,
        "counts": pair.counts,
        "changes": [
            {
                "task_id": change.task_id,
                "kind": change.kind,
                "a": _share_json(change.a),
                "b": _share_json(change.b),
                "reason": change.reason or None,
            }
            for change in pair.changes
        ],
    }


def _share_json(share: Share | None) -> dict[str, int] | None:
    if share is None:
        return None
    return {"passed": share.passed, "failed": share.failed, "errors": share.errors}
