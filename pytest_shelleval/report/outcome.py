"""Concludes a run once its results are written: summary, report, comparison, gates."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.summary import ResultCounts, write_summary

if TYPE_CHECKING:
    from pytest_shelleval.report.compare import Comparison
    from pytest_shelleval.report.gates import Gate


class GateOptions(Protocol):
    """The settings that the end of a run needs; fields are named as the options."""

    @property
    def output_dir(self) -> Path:
        """Where results.jsonl is."""
        ...

    @property
    def baseline(self) -> Path | None:
        """An earlier run to compare with."""
        ...

    @property
    def fail_under(self) -> str | None:
        """A gate on the pass rate."""
        ...

    @property
    def max_errors(self) -> int | None:
        """A gate on errors."""
        ...

    @property
    def fail_on(self) -> str | None:
        """A gate on the comparison with the baseline."""
        ...


@dataclass
class RunOutcome:
    """The outcome of a run: figures, comparison, gates, and problems at its end."""

    counts: ResultCounts
    summary: Mapping[str, Any]
    gates: list[Gate] = field(default_factory=list)
    comparison: Comparison | None = None
    report: Path | None = None
    """The report.html that was written; None if it could not be."""

    trouble: list[str] = field(default_factory=list)
    """What could not be written or compared, a line each; it fails a gated run."""

    annotations: list[str] = field(default_factory=list)
    """Workflow commands for GitHub Actions, a line each."""

    @property
    def gated(self) -> bool:
        """Whether gates decide, instead of each task."""
        return bool(self.gates)

    @property
    def met(self) -> bool:
        """Whether all gates are met."""
        return all(gate.met for gate in self.gates) and not self.trouble

    def facts(self) -> Iterator[str]:
        """The outcome as phrases, for the log."""
        for status in ("passed", "failed", "error"):
            yield f"{self.counts.count(status)} {status}"
        yield from (gate.line for gate in self.gates)
        yield from self.trouble

    def lines(self) -> Iterator[str]:
        """The section for the terminal."""
        from pytest_shelleval.report.text import section

        yield from section(self.counts, self.summary, gates=self.gates, comparison=self.comparison)
        yield from self.trouble


def conclude(
    counts: ResultCounts,
    summary: Mapping[str, Any],
    settings: GateOptions,
    sources: Mapping[str, str],
    lost: str = "",
) -> RunOutcome:
    """Write summary.json and report.html, compare with the baseline, and apply the gates.

    *sources* is the place of each task's row, for annotations; *lost* says why results could not be
    written, or is empty. Never raises UserError: problems are listed in ``trouble``.
    """
    found = RunOutcome(counts, summary)
    if lost:
        found.trouble.append(lost)
    for step in (_write_summary, _compare_and_report):
        try:
            step(found, settings)
        except UserError as error:
            found.trouble.append(str(error))
    found.gates += _gates(found, settings)
    _tell_github(found, sources)
    return found


def _write_summary(found: RunOutcome, settings: GateOptions) -> None:
    write_summary(settings.output_dir / "summary.json", found.summary)


def _compare_and_report(found: RunOutcome, settings: GateOptions) -> None:
    from pytest_shelleval.report.compare import compare_runs
    from pytest_shelleval.report.html import write_loaded
    from pytest_shelleval.report.run import load_run

    run = load_run(settings.output_dir, found.counts)
    if settings.baseline is not None:
        found.comparison = compare_runs(load_run(settings.baseline), run)
    found.report = write_loaded(run, found.comparison)


def _gates(found: RunOutcome, settings: GateOptions) -> Iterator[Gate]:
    from pytest_shelleval.report import gates

    counts, total = found.counts, found.summary["total_samples"]
    if not total and found.summary.get("shard"):
        return  # more shards than tasks: this one has nothing to judge
    if settings.fail_under is not None:
        yield gates.fail_under(counts, total, gates.parse_limit(settings.fail_under))
    if settings.max_errors is not None:
        yield gates.max_errors(counts, total, settings.max_errors)
    if settings.fail_on is not None and found.comparison is None:
        yield gates.Gate(False, f"nothing to compare with (--shelleval-fail-on={settings.fail_on})")
    elif settings.fail_on is not None and found.comparison is not None:
        significant = settings.fail_on == "significant-regression"
        yield gates.fail_on(
            found.comparison,
            counts,
            total,
            "significant-regression" if significant else "regression",
            errors_allowed=settings.max_errors is not None,
        )


def _tell_github(found: RunOutcome, sources: Mapping[str, str]) -> None:
    """Write the job summary and make the annotations, if this runs in GitHub Actions."""
    from pytest_shelleval.report import github
    from pytest_shelleval.report.words import in_github_actions

    target = os.environ.get("GITHUB_STEP_SUMMARY")
    if target:
        text = github.job_summary(
            found.counts, found.summary, gates=found.gates, comparison=found.comparison
        )
        try:
            with Path(target).open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            found.trouble.append(f"can't write GITHUB_STEP_SUMMARY: {error.strerror}")
    if in_github_actions():
        found.annotations = [*github.gate_annotations(found.gates)]
        if found.comparison is not None:
            found.annotations += github.regression_annotations(found.comparison, sources)
