"""``--shelleval-validate``: validates the selected rows before any model is asked."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_shelleval.adapter.run import Case, Run
from pytest_shelleval.core.errors import UserError

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.core.sandbox import SandboxProvider
    from pytest_shelleval.validation.findings import Report

_MOST_JOBS = 8


def validate(config: pytest.Config, run: Run, wanted: Sequence[Case]) -> None:
    """Validate the rows of *wanted*, in the controller, and print a summary.

    Raises UserError that names every faulty row, and SandboxUnavailable if no sandbox works.
    """
    from pytest_shelleval.adapter.reuse import has_own
    from pytest_shelleval.adapter.terminal import progress
    from pytest_shelleval.report.words import inert
    from pytest_shelleval.validation.validate import Validation

    tasks = {case.task.task_id: case.task for case in wanted}
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    # a user's provider need not be thread-safe
    own = has_own(config, "pytest_shelleval_sandboxes")
    jobs = 1 if own else min(os.cpu_count() or 1, _MOST_JOBS)
    shown = progress(config, "shelleval validation")
    with contextlib.closing(_provider(config, run, jobs)) as provider:
        validation = Validation(
            list(tasks.values()),
            provider,
            run.settings.policy,
            steps="shared" if run.settings.steps == "shared" else "separate",
            jobs=jobs,
            datasets=[source.name for source in run.sources],
            progress=lambda done, total, faulty: shown.show(done, total, f"tried, {faulty} faulty"),
        )
        try:
            validation.run()
        finally:
            shown.end()
        report = validation.report()
    if report.faulty:
        raise UserError("\n".join(_refusal(report)))
    if reporter is not None:
        for line in _good_news(report):
            reporter.write_line(inert(line))


def _provider(config: pytest.Config, run: Run, jobs: int) -> SandboxProvider:
    from pytest_shelleval.adapter.reuse import has_own
    from pytest_shelleval.sandboxes.registry import provide

    if has_own(config, "shelleval_sandboxes", "shelleval_sandbox"):
        raise UserError(
            "--shelleval-validate runs before fixtures are set up, so it can't use your fixture "
            "shelleval_sandboxes; return the provider from the hook pytest_shelleval_sandboxes "
            "instead, or leave out --shelleval-validate"
        )
    own: SandboxProvider | None = config.hook.pytest_shelleval_sandboxes(settings=run.settings)
    return own or provide(replace(run.sandbox_spec, pool_size=jobs))


def _refusal(report: Report) -> Iterator[str]:
    from pytest_shelleval.validation.text import section

    yield (
        f"{len(report.faulty):,} of {report.rows:,} rows are faulty; nothing was run and no model "
        "was asked"
    )
    yield from section(report, "fault")
    yield "Fix them, or leave out --shelleval-validate. shelleval validate DATASET shows all details."


def _good_news(report: Report) -> Iterator[str]:
    from pytest_shelleval.validation.text import section, summary

    yield from (f"shelleval validation: {line.strip()}" for line in summary(report))
    warned = Counter(each.kind for each in report.findings if each.severity == "warning")
    if warned:
        kinds = ", ".join(f"{kind} {number}" for kind, number in warned.most_common())
        yield f"shelleval validation: warnings: {kinds} (shelleval validate DATASET shows them)"
    yield from section(report, "remark")
