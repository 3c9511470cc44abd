"""A run's output for GitHub Actions: annotations on the dataset's lines, and a job summary.

All functions are pure: the caller prints the annotations to stdout, each on a line of its own, and
appends the Markdown to the file that ``GITHUB_STEP_SUMMARY`` names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_shelleval.core.reasons import label_of
from pytest_shelleval.core.summary import ResultCounts
from pytest_shelleval.report.compare import KINDS, Comparison, ModelComparison
from pytest_shelleval.report.gates import Gate
from pytest_shelleval.report.run import pass_rate
from pytest_shelleval.report.words import interval, p_text, percent, points, visible

_ANNOTATIONS = 10  # GitHub shows no more errors of one step
_ROWS = 50  # of a list in the job summary, which must stay under 1 MiB


def regression_annotations(comparison: Comparison, sources: Mapping[str, str]) -> Iterator[str]:
    """A workflow command for each regression, on the dataset's line.

    *sources* gives each task's place, ``tasks.jsonl:12``, relative to the repository; a task without
    one gets an annotation without a place. Only the first 10 are given, since GitHub shows no more
    per step; the last of them has the number of the rest.
    """
    broken = [(pair, change) for pair in comparison.models for change in pair.of_kind("broken")]
    for number, (pair, change) in enumerate(broken[:_ANNOTATIONS], 1):
        text = f"{change.task_id} passed in the baseline and fails now: {change.reason}"
        if pair.model_b:
            text += f" ({pair.model_b})"
        more = len(broken) - _ANNOTATIONS
        if number == _ANNOTATIONS and more > 0:
            text += f"\n... and {more} more regressions"
        yield command("error", text, sources.get(change.task_id, ""), title="shelleval regression")


def gate_annotations(gates: Sequence[Gate]) -> Iterator[str]:
    """A workflow command for each gate that is not met."""
    for gate in gates:
        if not gate.met:
            yield command("error", gate.line, title="shelleval gate")


def command(level: str, text: str, source: str = "", *, title: str = "") -> str:
    """``::error file=...,line=...,title=...::text``, escaped for GitHub's runner.

    *source* is ``file:line`` or ``file``; other places (``data.parquet row 7``) name the file alone.
    """
    place = re.fullmatch(r"(?P<file>.+?)(?::(?P<line>\d+)| row \d+)?", source)
    properties = {
        "file": place["file"] if place else "",
        "line": (place["line"] if place else "") or "",
        "title": title,
    }
    given = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    return f"::{level}{' ' if given else ''}{given}::{_data(text)}"


def _data(text: str) -> str:
    shown = "\n".join(visible(line) for line in text.split("\n"))
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def job_summary(
    counts: ResultCounts,
    summary: Mapping[str, Any],
    *,
    gates: Sequence[Gate] = (),
    comparison: Comparison | None = None,
) -> str:
    """The run as GitHub Markdown: a table of models, gates, the comparison, why tasks did not pass."""
    return "\n".join(_markdown(counts, summary, gates, comparison)) + "\n"


def _markdown(
    counts: ResultCounts,
    summary: Mapping[str, Any],
    gates: Sequence[Gate],
    comparison: Comparison | None,
) -> Iterator[str]:
    yield "## shelleval"
    if not summary.get("complete", True):
        yield ""
        yield (
            f"**Partial run:** {summary['unrun_samples']:,} of {summary['total_samples']:,} selected "
            "commands have no result."
        )
    yield ""
    yield "| model | pass rate | 95 % interval | passed | failed | errors | scored | run |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for model in counts.models:
        rate = pass_rate(counts, model)
        passed, failed, errors = (counts.count(s, model) for s in ("passed", "failed", "error"))
        scope = interval(rate).removeprefix("95 % interval ")
        yield (
            f"| {escape(model or 'unknown')} | **{percent(rate.value)}** | {scope} | {passed:,} | "
            f"{failed:,} | {errors:,} | {passed + failed:,} | {passed + failed + errors:,} |"
        )
    for gate in gates:
        yield ""
        yield f"{'✅' if gate.met else '❌'} {escape(gate.line)}"
    if comparison is not None:
        yield from _comparison(comparison)
    reasons = Counter(
        label_of(outcome.reason) for outcome in counts.outcomes.values() if outcome.reason
    )
    if reasons:
        yield from ("", "<details><summary>Why commands did not pass</summary>", "")
        yield from ("| reason | commands |", "|---|--:|")
        for label, number in reasons.most_common(_ROWS):
            yield f"| {escape(label)} | {number:,} |"
        yield from ("", "</details>")


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield from ("", "### Against the baseline")
    for difference in comparison.differences:
        yield from ("", f"⚠️ **Not comparable:** {escape(difference)}")
    for pair in comparison.models:
        yield from _pair(pair)


def _pair(pair: ModelComparison) -> Iterator[str]:
    counts = ", ".join(f"{KINDS[kind]} {number:,}" for kind, number in pair.counts.items())
    yield ""
    yield (
        f"**{escape(pair.model_b or 'unknown')}**: {percent(pair.rate_a)} → {percent(pair.rate_b)}, "
        f"{points(pair.difference)}, {p_text(pair.p_value)}, over {pair.tasks:,} tasks. {counts}."
    )
    broken = pair.of_kind("broken")
    if not broken:
        return
    yield from ("", f"<details open><summary>{len(broken):,} broken</summary>", "")
    yield from ("| task | why it fails now |", "|---|---|")
    for change in broken[:_ROWS]:
        yield f"| {escape(change.task_id)} | {escape(change.reason)} |"
    if len(broken) > _ROWS:
        yield f"| ... and {len(broken) - _ROWS:,} more | |"
    yield from ("", "</details>")


_MARKDOWN = re.compile(r"[\\`*_\[\]#|~$@]|(?<=:)//|(?<=www)\.")


def escape(text: str) -> str:
    """*text* as one line of literal Markdown: no HTML, no mark-up, no mention, no link."""
    line = " ".join(visible(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(lambda match: "".join(f"&#{ord(char)};" for char in match[0]), line)
