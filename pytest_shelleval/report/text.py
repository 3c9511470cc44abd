"""The figures of a run as lines for a terminal or a CI log: 80 columns, no colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_shelleval.core.reasons import label_of
from pytest_shelleval.core.summary import Key, Outcome, ResultCounts
from pytest_shelleval.report.run import group_rates, pass_rate
from pytest_shelleval.report.words import count, cut, interval, percent, seconds, visible, wrapped

if TYPE_CHECKING:
    from pytest_shelleval.report.compare import Comparison
    from pytest_shelleval.report.gates import Gate

_GROUPS = 12
_REASONS = 6
_SLOWEST = 3


def header(
    *,
    rows: int,
    names: str,
    sha256: str,
    models: str,
    phase: str,
    sandbox: str,
    shard: str | None,
    workers: int | None,
) -> list[str]:
    """Lines for the head of a run: datasets, models, phase, sandbox.

    *names* and *models* are comma-separated lists; *workers* is None without pytest-xdist.
    """
    where = f"sandbox {sandbox}" + (f", {count(workers, 'worker')}" if workers else "")
    line = (
        f"shelleval: {count(rows, 'task')} of {names} (sha256 {sha256[:8]}), model {models}, phase "
        f"{phase}, {where}" + (f", shard {shard}" if shard else "")
    )
    return list(wrapped(line))


def section(
    counts: ResultCounts,
    summary: Mapping[str, Any],
    *,
    gates: Sequence[Gate] = (),
    comparison: Comparison | None = None,
) -> Iterator[str]:
    """The lines of the section at the end of a run that executed commands.

    *summary* adds what *counts* lacks: ``total_samples``, ``unrun_samples``, ``complete``,
    ``evaluation_time``, and optionally ``cost``, a number in US dollars.
    """
    if not summary.get("complete", True):
        yield (
            f"PARTIAL RUN: {summary['unrun_samples']:,} of {summary['total_samples']:,} selected "
            "commands have no result"
        )
    if summary.get("shard"):
        yield f"shard {summary['shard']}: shelleval merge puts all shards together"
    yield from _models(counts, summary)
    yield from _errors(counts)
    for kind in ("tag", "difficulty"):
        yield from _groups(counts, kind)
    yield from _reasons(counts)
    yield from _costs(counts, summary)
    yield from _slowest(counts)
    if comparison is not None:
        yield ""
        yield from comparison.lines()
    if gates:
        yield ""
    for gate in gates:
        yield from wrapped(gate.line)


def _models(counts: ResultCounts, summary: Mapping[str, Any]) -> Iterator[str]:
    recorded = len(counts.outcomes)
    errors = counts.count("error")
    total = summary.get("total_samples", recorded)
    yield (f"selected {total:,}, run {recorded:,}, errors {errors:,}, scored {recorded - errors:,}")
    yield from _origins(summary)
    for model in counts.models:
        rate = pass_rate(counts, model)
        passed, failed, errors = (counts.count(s, model) for s in ("passed", "failed", "error"))
        yield from wrapped(
            f"{model or 'unknown'}: {percent(rate.value)} passed, {passed:,} of "
            f"{passed + failed + errors:,} ({interval(rate)})"
        )
        if errors and passed + failed:
            scored = passed / (passed + failed)
            yield (
                f"  of the {passed + failed:,} with a verdict {percent(scored)}; "
                f"{count(errors, 'error')} not the model's doing"
            )
        at_k = counts.pass_at_k(model)
        for k in sorted(map(int, at_k)):
            if len(at_k) > 1:
                estimate = pass_rate(counts, model, k)
                yield f"  pass@{k:<3} {percent(estimate.value):>7} ({interval(estimate)})"


def _origins(summary: Mapping[str, Any]) -> Iterator[str]:
    """How many results this run did not produce itself."""
    if summary.get("replayed"):
        yield f"{summary['replayed']:,} replayed from an earlier run"
    if summary.get("reused"):
        yield f"{summary['reused']:,} reused from another item with the same command"
    if summary.get("kept"):
        yield f"{summary['kept']:,} of an earlier run, not selected now"


def _errors(counts: ResultCounts) -> Iterator[str]:
    kinds = counts.error_kinds()
    if kinds:
        shown = ", ".join(f"{kind} {number:,}" for kind, number in kinds.items())
        yield from wrapped(f"errors by kind: {shown}")


def _groups(counts: ResultCounts, kind: str) -> Iterator[str]:
    """A table with a row per group and model: counts, rate, interval."""
    groups = group_rates(counts, kind)
    if len(groups) < 2:
        return

    def size(name: str) -> int:
        return sum(figures.total for figures in groups[name].values())

    shown = set(sorted(groups, key=size, reverse=True)[:_GROUPS])  # the report has them all
    names = [name for name in groups if name in shown]
    several = len(counts.models) > 1
    labels = [kind, *map(visible, names)]
    width = min(max(map(len, labels)), 24)
    models = min(max((len(visible(m or "unknown")) for m in counts.models), default=0), 16)
    yield ""
    head = f"{kind:<{width}}" + (f"  {'model':<{models}}" if several else "")
    yield f"{head}  passed    of     rate  95 % interval"
    for name in names:
        for model in counts.models:
            figures = groups[name].get(model)
            if figures is None:
                continue
            rate = figures.rate
            row = f"{visible(name)[:width]:<{width}}"
            row += f"  {visible(model or 'unknown')[:models]:<{models}}" if several else ""
            row += f"  {figures.passed:>6,} {figures.total:>5,}  {percent(rate.value):>7}"
            yield f"{row}  {100 * rate.low:3.0f} to {100 * rate.high:3.0f} %"
    left = len(groups) - len(names)
    if left:
        yield f"... and {left} more, see the report"


def _reasons(counts: ResultCounts) -> Iterator[str]:
    """The most common reasons, each with its most common details."""
    found: dict[str, Counter[str]] = {}
    for outcome in counts.outcomes.values():
        if outcome.reason:
            label = label_of(outcome.reason)
            detail = outcome.reason[len(label) + 2 :]
            found.setdefault(label, Counter())[detail] += 1
    if not found:
        return
    yield ""
    yield "why commands did not pass:"
    ranked = sorted(found.items(), key=lambda each: -each[1].total())
    for label, details in ranked[:_REASONS]:
        named = [f"{d} ({n})" if n > 1 else d for d, n in details.most_common(3) if d]
        said = f": {', '.join(named)}" if named else ""
        yield cut(f"{details.total():>6,}  {label}{said}")
    if len(ranked) > _REASONS:
        yield f"{sum(d.total() for _, d in ranked[_REASONS:]):>6,}  for {len(ranked) - _REASONS} other reasons"


def _costs(counts: ResultCounts, summary: Mapping[str, Any]) -> Iterator[str]:
    parts = []
    if counts.usage:
        parts.append(
            "tokens: "
            + ", ".join(f"{n.removesuffix('_tokens')} {c:,}" for n, c in counts.usage.items())
        )
    cost = summary.get("cost")
    if isinstance(cost, (int, float)):
        parts.append(f"cost ${cost:,.2f}")
    if counts.durations or parts:
        yield ""
    if parts:
        yield from wrapped("; ".join(parts))
    if counts.durations:
        steps = ", ".join(f"{name} {seconds(value)}" for name, value in counts.durations.items())
        wall = summary.get("evaluation_time")
        took = f" (wall time {seconds(wall)})" if isinstance(wall, (int, float)) else ""
        yield from wrapped(f"time in all sandboxes: {steps}{took}")


def _slowest(counts: ResultCounts) -> Iterator[str]:
    def by_time(each: tuple[Key, Outcome]) -> float:
        return -each[1].seconds

    slow = sorted(counts.outcomes.items(), key=by_time)[:_SLOWEST]
    named = [
        f"{key[0]} {seconds(outcome.seconds)}" for key, outcome in slow if outcome.seconds >= 1
    ]
    if named:
        yield from wrapped("slowest: " + ", ".join(named))
