"""What a run says on the terminal: progress of phase 1, and the section at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_shelleval.report.words import visible

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.models.inference import InferenceSummary
    from pytest_shelleval.models.money import Forecast
    from pytest_shelleval.options import Settings

_BAR = 24
_REDRAW = 0.1
_LINE = 1.0


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

    def say(self, text: str) -> None:
        """Show a line about the waiting: in place of the bar on a terminal, as a line elsewhere."""
        reporter = self._reporter
        if reporter is not None and reporter.isatty:
            reporter.rewrite(f"shelleval inference: {text}"[:78], erase=True)
        elif reporter is not None:
            reporter.write_line(f"shelleval inference: {text}")

    def _text(self) -> str:
        seconds = time.monotonic() - self._started
        failed = f", {self._failed} without a command" if self._failed else ""
        return f"{self._done}/{self._total} from {self._model}{failed}, {seconds:.1f} s"


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
    if done.failed:
        yield (
            f"  {done.failed} of {done.asked} have no command (see error in "
            f"{settings.commands_file}); the next run asks for them again"
        )
    elif settings.phase == "inference":
        yield f"commands: {settings.commands_file}"


def forecast_lines(found: Forecast) -> Iterator[str]:
    """What a run would ask, for ``--collect-only``."""
    yield f"inference would make {found.requests:,} requests; {found.cached:,} are cached"
    if found.requests:
        likely = found.likely_output_tokens
        yield (
            f"  tokens: about {found.input_tokens:,} input, at most {found.output_tokens:,} output"
            + ("" if likely is None else f", {likely:,} if replies are like those before")
        )
    if found.cost is not None:
        yield f"  cost: at most ${found.cost:,.4f}"


def relative(path: Path, here: Path) -> str:
    """*path* as seen from *here*, if it is below."""
    try:
        return str(path.relative_to(here))
    except ValueError:
        return str(path)
