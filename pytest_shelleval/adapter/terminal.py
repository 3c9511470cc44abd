"""What a run says on the terminal: progress of phase 1, and the section at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_shelleval.report.words import count, inert, visible

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.models.inference import InferenceSummary
    from pytest_shelleval.models.money import Forecast
    from pytest_shelleval.settings.settings import Settings

_BAR = 24
_REDRAW = 0.1
_LINE = 1.0


def _can_redraw(reporter: pytest.TerminalReporter) -> bool:
    """Whether a line can be drawn again; a reporter of another plugin may not say, then it can't."""
    return bool(getattr(reporter, "isatty", False))


class Bar:
    """Shows how far something is: a bar on a terminal, a line per tenth elsewhere."""

    def __init__(self, reporter: pytest.TerminalReporter | None, label: str) -> None:
        self._reporter = reporter
        self._label = label
        self._tenths = 0
        self._drawn = self._started = time.monotonic()
        self._used = False

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._started

    def show(self, done: int, total: int, text: str) -> None:
        """Show that *done* of *total* are done, and *text*, if it is time for that."""
        reporter, self._used = self._reporter, True
        if reporter is None:
            return
        if _can_redraw(reporter):
            now = time.monotonic()
            if now - self._drawn >= _REDRAW or done == total:
                self._drawn = now
                filled = _BAR * done // total
                bar = "#" * filled + "." * (_BAR - filled)
                reporter.rewrite(f"{self._label} [{bar}] {text}"[:78], erase=True)
        elif self._is_due(done, total):
            reporter.write_line(inert(f"{self._label}: {text}"))

    def _is_due(self, done: int, total: int) -> bool:
        """Whether a log gets a line: at each tenth, at most one a second, and at the end."""
        now, tenths = time.monotonic(), done * 10 // total
        due = done == total or (tenths > self._tenths and now - self._drawn >= _LINE)
        if due:
            self._tenths, self._drawn = tenths, now
        return due

    def end(self) -> None:
        """End the line of the bar."""
        if self._reporter is not None and self._used and _can_redraw(self._reporter):
            self._reporter.write_line("")


class Progress:
    """Shows how far phase 1 is."""

    def __init__(self, reporter: pytest.TerminalReporter | None, total: int, model: str) -> None:
        self._reporter = reporter
        self._bar = Bar(reporter, "shelleval inference")
        self._total = total
        self._model = model
        self._done = 0
        self._failed = 0

    def step(self, *, failed: bool) -> None:
        """Count one more command."""
        self._done += 1
        self._failed += failed
        self._bar.show(self._done, self._total, self._text())

    def end(self) -> None:
        """End the line of the bar."""
        self._bar.end()

    def say(self, text: str) -> None:
        """Show a line about the waiting: in place of the bar on a terminal, as a line elsewhere."""
        reporter = self._reporter
        if reporter is not None and _can_redraw(reporter):
            reporter.rewrite(f"shelleval inference: {text}"[:78], erase=True)
        elif reporter is not None:
            reporter.write_line(inert(f"shelleval inference: {text}"))

    def _text(self) -> str:
        failed = f", {self._failed} without a command" if self._failed else ""
        return f"{self._done}/{self._total} from {self._model}{failed}, {self._bar.seconds:.1f} s"


def inference_lines(done: InferenceSummary, settings: Settings) -> Iterator[str]:
    """What phase 1 did."""
    yield (
        f"inference: {done.asked} asked, {done.cached} cached, {done.failed} without a command, "
        f"{done.seconds:.1f} s"
    )
    bought = [f"{count:,} {kind.removesuffix('_tokens')}" for kind, count in done.usage.items()]
    if bought:
        cost = "" if done.cost is None else f"; cost ${done.cost:,.4f}"
        yield f"  tokens: {', '.join(bought)}{cost}"
    for warning in done.warnings:
        yield f"  warning: {visible(warning)}"
    final = done.failed - done.unanswered
    if final:
        yield (
            f"  {final} of {done.asked} were answered without a command, the model's failure: only "
            "--shelleval-refresh asks again"
        )
    if done.unanswered:
        yield (
            f"  {done.unanswered} of {done.asked} have no command because no answer came (see error "
            f"in {settings.commands_file}); the next run asks for them again"
        )
    elif settings.phase == "inference":
        yield f"commands: {settings.commands_file}"


def forecast_lines(found: Mapping[str, Forecast]) -> Iterator[str]:
    """What a run would ask, for ``--collect-only``: of all models, then of each where several are."""
    if not found:
        yield "inference would make no requests: these models cost nothing"
        return
    forecasts = list(found.values())
    yield from _forecast_of(sum(forecasts[1:], forecasts[0]), "inference would make ", "  ")
    if len(found) > 1:
        for name, each in found.items():
            yield from _forecast_of(each, f"  {visible(name)}: ", "    ")


def _forecast_of(found: Forecast, start: str, indent: str) -> Iterator[str]:
    yield f"{start}{count(found.requests, 'request')}; {found.cached:,} cached"
    if not found.requests:
        return
    likely, cost = found.likely_output_tokens, found.likely_cost
    yield (
        f"{indent}tokens: about {found.input_tokens:,} input, at most {found.output_tokens:,} output"
        + ("" if likely is None else f", {likely:,} if replies are like those before")
    )
    if found.cost is not None:
        yield (
            f"{indent}cost: at most ${found.cost:,.4f}"
            + ("" if cost is None else f", ${cost:,.4f} if replies are like those before")
        )


def relative(path: Path, here: Path) -> str:
    """*path* as seen from *here*, if it is below."""
    try:
        return str(path.relative_to(here))
    except ValueError:
        return str(path)
