"""A run's terminal output: progress of phase 1, and lines of the final section."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_shelleval.report.progress import Progress
from pytest_shelleval.report.words import count, visible

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.models.inference import InferenceSummary
    from pytest_shelleval.models.money import Forecast
    from pytest_shelleval.settings.settings import Settings


def progress(config: pytest.Config, label: str) -> Progress:
    """A progress display called *label* on pytest's terminal."""
    reporter: Any = config.pluginmanager.getplugin("terminalreporter")
    if getattr(reporter, "isatty", False):
        return Progress(label, config.get_terminal_writer(), terminal=True)
    # a reporter of another plugin need not have a writer
    return Progress(label, None if reporter is None else _Lines(reporter), terminal=False)


class _Lines:
    """Writes whole lines to a terminal reporter."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter

    def write(self, text: str) -> None:
        self._reporter.write_line(text.rstrip("\n"))

    def flush(self) -> None:
        pass


def inference_lines(done: InferenceSummary, settings: Settings) -> Iterator[str]:
    """The summary of phase 1, as lines."""
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
    """The requests that a run would make, for ``--collect-only``: in total, then by model if several."""
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
    """*path* relative to *here* if it is inside, else unchanged."""
    try:
        return str(path.relative_to(here))
    except ValueError:
        return str(path)
