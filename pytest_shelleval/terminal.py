"""What a run says on the terminal: progress of phase 1, and the section at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_shelleval.explain import visible

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.core.summary import Tally

_BAR = 24
_REDRAW = 0.1
_LINE = 1.0
_SLOWEST = 3
_REASONS = 5


class Progress:
    """Shows how far phase 1 is: a bar on a terminal, a line per tenth elsewhere."""

    def __init__(self, reporter: pytest.TerminalReporter | None, total: int, model: str) -> None:
        self._reporter = reporter
        self._total = total
        self._model = model
        self._done = 0
        self._failed = 0
        self._tenths = 0
        self._started = time.monotonic()
        self._drawn = self._started

    def step(self, *, failed: bool) -> None:
        """Count one more command."""
        self._done += 1
        self._failed += failed
        reporter = self._reporter
        if reporter is None:
            return
        if reporter.isatty:
            now = time.monotonic()
            if now - self._drawn >= _REDRAW or self._done == self._total:
                self._drawn = now
                filled = _BAR * self._done // self._total
                bar = "#" * filled + "." * (_BAR - filled)
                reporter.rewrite(f"shelleval inference [{bar}] {self._text()}"[:78], erase=True)
        elif self._is_due():
            reporter.write_line(f"shelleval inference: {self._text()}")

    def _is_due(self) -> bool:
        """Whether a log gets a line: at each tenth, at most one a second, and at the end."""
        now, tenths = time.monotonic(), self._done * 10 // self._total
        due = self._done == self._total or (tenths > self._tenths and now - self._drawn >= _LINE)
        if due:
            self._tenths, self._drawn = tenths, now
        return due

    def end(self) -> None:
        """End the line of the bar."""
        if self._reporter is not None and self._reporter.isatty and self._done:
            self._reporter.write_line("")

    def _text(self) -> str:
        seconds = time.monotonic() - self._started
        failed = f", {self._failed} without a command" if self._failed else ""
        return f"{self._done}/{self._total} from {self._model}{failed}, {seconds:.1f} s"


def section(
    tally: Tally, summary: Mapping[str, Any], directory: Path, here: Path, gate: str
) -> Iterator[str]:
    """The lines of the section at the end of a run that executed commands."""
    for name, figures in summary["by_model"].items():
        low, high = figures["interval_95"]
        yield (
            f"{name}: {figures['passed']} of {figures['total']} passed = "
            f"{figures['success_rate']:.1%} (95 % interval {low:.1%} to {high:.1%})"
        )
        if figures["errors"]:
            yield (
                f"  of the {figures['scored']} with a verdict: {figures['scored_rate']:.1%}; "
                f"{figures['errors']} errors, which are not the model's doing"
            )
        if len(figures["pass_at_k"]) > 1:
            yield "  " + ", ".join(
                f"pass@{k} {rate:.1%}" for k, rate in figures["pass_at_k"].items()
            )
    if summary["by_error_kind"]:
        kinds = ", ".join(f"{kind} {count}" for kind, count in summary["by_error_kind"].items())
        yield f"errors by kind: {kinds}"
    for title, groups in (("tag", summary["by_tag"]), ("difficulty", summary["by_difficulty"])):
        yield from _table(title, groups)
    yield from _reasons(tally)
    yield from _slowest(tally)
    if summary["usage"]:
        yield "tokens: " + ", ".join(
            f"{name.removesuffix('_tokens')} {count:,}" for name, count in summary["usage"].items()
        )
    if not summary["complete"]:
        yield (
            f"PARTIAL RUN: {summary['unrun_samples']} of {summary['total_samples']} selected tasks "
            "have no result"
        )
    if gate:
        yield gate
    yield f"files: {_relative(directory, here)}/{{commands.jsonl,results.jsonl,summary.json}}"


def _table(title: str, groups: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if len(groups) < 2:
        return
    width = min(max(map(len, [*groups, title])), 40)
    yield f"{title:<{width}}  passed  of     rate"
    for name, figures in groups.items():
        yield (
            f"{visible(name)[:width]:<{width}}  {figures['passed']:>6}  {figures['total']:<5}"
            f"  {figures['success_rate']:.1%}"
        )


def _reasons(tally: Tally) -> Iterator[str]:
    reasons = Counter(outcome.reason for outcome in tally.outcomes.values() if outcome.reason)
    if reasons:
        yield "why tasks did not pass:"
    for reason, count in reasons.most_common(_REASONS):
        first = visible(reason).splitlines()[0]
        yield f"{count:>6}  {first if len(first) <= 70 else first[:67] + '...'}"


def _slowest(tally: Tally) -> Iterator[str]:
    slow = sorted(tally.outcomes.items(), key=lambda each: -each[1].seconds)[:_SLOWEST]
    named = [f"{key[0]} {outcome.seconds:.2f} s" for key, outcome in slow if outcome.seconds >= 1]
    if named:
        yield "slowest: " + ", ".join(named)


def _relative(path: Path, here: Path) -> str:
    try:
        return str(path.relative_to(here))
    except ValueError:
        return str(path)
