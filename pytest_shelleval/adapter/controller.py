"""The controller, the process that the user started: it runs phase 1, writes files, applies gates."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval.adapter.inference import Phase1
from pytest_shelleval.adapter.run import Case, Run
from pytest_shelleval.adapter.shown import rewrite_report, rewritten, usage_error
from pytest_shelleval.adapter.terminal import forecast_lines, inference_lines, relative
from pytest_shelleval.adapter.validation import validate
from pytest_shelleval.core.errors import InferenceAborted, SandboxUnavailable, UserError
from pytest_shelleval.core.provenance import git_commit, versions
from pytest_shelleval.report.words import inert

if TYPE_CHECKING:
    from pytest_shelleval.adapter.ahead import Ahead
    from pytest_shelleval.core.scratch import Scratch
    from pytest_shelleval.core.summary import ResultCounts
    from pytest_shelleval.models.money import Prices
    from pytest_shelleval.report.outcome import RunOutcome

_log = logging.getLogger(__name__)
_SHOWING = ("collectonly", "setuponly", "showfixtures", "show_fixtures_per_test", "cacheshow")
"""pytest's options that run no test; ``--setup-plan`` implies ``--setup-only``."""


class Controller:
    """A pytest plugin, registered in the controller of an active run only."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        from pytest_shelleval.adapter.recorder import Recorder
        from pytest_shelleval.adapter.reuse import reuse_of

        self.config = config
        self.run = run
        self.phase1 = Phase1(config, run)
        self.recorder = Recorder(
            run, reuse_of(config, run), failed_again=bool(config.getoption("lf", False))
        )
        self._failed_reports = 0
        self._started = time.monotonic()
        self._scratch: Scratch | None = None
        self.outcome: RunOutcome | None = None
        self._ahead: Ahead | None = None
        self._forecast: list[str] = []

    # -- start ------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Read the datasets and check that a sandbox works, before anything is spent."""
        try:
            self.run.cases  # noqa: B018 - loads and checks
            if not self.only_shows:
                self.phase1.check()
                self._check_baseline()
                self._hold_folder()
                if self.run.settings.phase != "inference":
                    self.recorder.load()
            if self._needs_sandbox and not self.only_shows:
                self._check_sandbox()
                self._make_state_directory()
        except (UserError, SandboxUnavailable) as error:
            raise usage_error(error) from error

    def pytest_report_header(self) -> list[str]:
        """The datasets, models, phase and sandbox of the run."""
        from pytest_shelleval.report.text import header

        run, option = self.run, self.config.option
        lines = header(
            rows=sum(map(len, run.tasks)),
            names=", ".join(source.name for source in run.sources),
            sha256=run.sha256,
            models=", ".join(dict.fromkeys(model or "any" for model, _ in run.variants)),
            phase=run.settings.phase,
            sandbox=run.settings.sandbox,
            shard=run.settings.shard,
            workers=len(getattr(option, "tx", None) or ()) or None,
        )
        return list(map(inert, lines))

    @property
    def only_shows(self) -> bool:
        """Whether pytest only shows something, as with ``--collect-only``, and runs nothing."""
        return any(getattr(self.config.option, name, False) for name in _SHOWING)

    @property
    def _needs_sandbox(self) -> bool:
        settings = self.run.settings
        return settings.phase != "inference" or settings.validate

    def _check_baseline(self) -> None:
        settings = self.run.settings
        if settings.baseline is not None:
            from pytest_shelleval.report.run import results_file

            before = results_file(settings.baseline)
            if before.resolve() == (settings.output_dir / "results.jsonl").resolve():
                raise UserError(
                    f"--shelleval-baseline: {before} is what this run writes; copy it "
                    "elsewhere, or write to another --shelleval-output-dir"
                )
        elif settings.fail_on is not None:
            raise UserError(
                "--shelleval-fail-on needs an earlier run: name it with --shelleval-baseline"
            )

    def _hold_folder(self) -> None:
        """Lock the output folder and commands.jsonl until this process ends; begin debug.log."""
        from pytest_shelleval.adapter.logs import start as start_log
        from pytest_shelleval.core.lock import FolderLock
        from pytest_shelleval.settings.resolve import without_secrets

        arguments = without_secrets(self.config.invocation_params.args)
        settings, command = self.run.settings, ["pytest", *arguments]
        self.config.add_cleanup(FolderLock(settings.output_dir, command).release)
        if settings.phase != "execution":  # another run may use the file with another folder
            file = settings.commands_file
            self.config.add_cleanup(FolderLock(file.parent, command, file=file.name).release)
        start_log(self.config, self.run)

    def _check_sandbox(self) -> None:
        from pytest_shelleval.adapter.reuse import has_own
        from pytest_shelleval.sandboxes.registry import check

        own = ("pytest_shelleval_sandboxes", "shelleval_sandboxes", "shelleval_sandbox")
        if not has_own(self.config, *own):
            self.run.sandbox_kind = check(self.run.settings.sandbox_spec)

    def _make_state_directory(self) -> None:
        from pytest_shelleval.core.scratch import Scratch
        from pytest_shelleval.sandboxes.registry import clean_up_after_killed_runs

        clean_up_after_killed_runs(self.run.sandbox_spec)
        try:
            self._scratch = Scratch("snapshots")
        except OSError as error:
            raise UserError(f"can't make a temporary folder: {error}") from error
        self.run.state_directory = self._scratch.path

    # -- phase 1 ----------------------------------------------------------------------------------

    def infer(self, nodeids: Iterable[str]) -> None:
        """Run phase 1 for the selected items. Raises pytest.UsageError if it can't be done at all."""
        if self.only_shows:
            return
        cases = self.run.cases
        selected = [nodeid for nodeid in nodeids if nodeid in cases]
        if not selected and self.run.settings.shard is None:
            return
        wanted = [cases[nodeid] for nodeid in selected]
        try:
            if selected and self.run.settings.validate:
                validate(self.config, self.run, wanted)
            if selected:
                _log.info("phase 1 begins: %d commands are needed", len(wanted))
                self.phase1.ask_or_find(wanted)
                _log.info("phase 1 has ended")
            if self.run.settings.phase != "inference":
                self.recorder.begin(selected)
        except (UserError, InferenceAborted, SandboxUnavailable) as error:
            _log.error("the run ends: %s", error)
            raise usage_error(error) from error

    def _look_ahead(self, nodeids: Iterable[str]) -> None:
        """Estimate the requests, tokens and cost of inference for these items."""
        cases = self.run.cases
        wanted = [cases[nodeid] for nodeid in nodeids if nodeid in cases]
        try:
            self._forecast = list(forecast_lines(self.phase1.forecast(wanted)))
        except UserError as error:
            raise usage_error(error) from error

    # -- phase 2 ----------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run phase 1 before the first test, and apply the gates after the last."""
        distributed = self.config.pluginmanager.hasplugin("dsession")
        ready = not self.only_shows and (
            not session.testsfailed or self.config.option.continue_on_collection_errors
        )
        if ready and not distributed:
            self.infer(item.nodeid for item in session.items)
            if self.run.settings.phase == "inference":
                session.items.clear()
        if self.only_shows and not distributed and self.run.settings.phase != "execution":
            self._look_ahead(item.nodeid for item in session.items)
        if ready and not distributed:
            self._begin_ahead(session)
        try:
            outcome = yield
        finally:
            self._end_ahead()
        asked = self.phase1.summary
        if asked is not None and self.run.settings.phase == "inference":
            session.testsfailed += asked.unanswered
        elif self.recorder.selected:
            self._gate(session)
        return outcome

    def _begin_ahead(self, session: pytest.Session) -> None:
        """Start executing items ahead of pytest, unless they must run one at a time."""
        from pytest_shelleval.adapter.ahead import AHEAD, Ahead, why_alone

        if self.recorder.selected and not why_alone(self.config):
            try:
                self._ahead = Ahead(self.config, self.run, session.items)
            except SandboxUnavailable as error:
                raise usage_error(error) from error
            self.config.stash[AHEAD] = self._ahead

    def _end_ahead(self) -> None:
        """Stop executions under way, and record those that finished."""
        from pytest_shelleval.adapter.ahead import AHEAD

        if self._ahead is not None:
            del self.config.stash[AHEAD]
            self._ahead.end(self.recorder.add)
            self._ahead = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result that a report carries, or the crash of a lost worker's item."""
        from pytest_shelleval.adapter.transport import share_words, take_result

        rewrite_report(report, inert)
        if report.nodeid not in self.run.cases:
            return
        if hasattr(report, "worker_id"):
            share_words(report)
        self._failed_reports += report.failed
        record = take_result(report)
        if record is None and report.failed and report.when not in ("setup", "call", "teardown"):
            # pytest-xdist's report of a dead worker has when="???"
            record = self._crashed(self.run.cases[report.nodeid], str(report.longrepr))
        if record is not None:
            self.recorder.add(report.nodeid, record)
            if self._ahead is not None:
                self._ahead.recorded(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep texts of the dataset from acting as workflow commands of GitHub Actions."""
        rewrite_report(report, inert)

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: object) -> None:
        """Keep texts in a traceback from acting as workflow commands of GitHub Actions."""
        rewritten(excrepr, inert)

    def _crashed(self, case: Case, reason: str) -> dict[str, Any]:
        from pytest_shelleval.core.results import Result, empty_command

        found = self.run.command_for(case)
        stand_in = empty_command(case.task, case.model, case.sample)
        result = Result.of(case.task, found.command or stand_in)
        result.execution_key = found.execution_key
        result.fail_as_error("crashed", reason)
        _log.error("%s: its worker died: %s", result.name, reason)
        return result.to_record()

    # -- end --------------------------------------------------------------------------------------

    def _conclude(self) -> RunOutcome | None:
        """Close results.jsonl and compute the outcome, once; None if nothing was executed."""
        from pytest_shelleval.report.outcome import conclude

        if self.recorder.begun and self.outcome is None:
            self.recorder.close()
            self.run.let_go()
            places = {case.task.task_id: case.task.source for case in self.run.cases.values()}
            self.outcome = conclude(
                self.recorder.counts,
                self._summary(),
                self.run.settings,
                places,
                self.recorder.lost,
            )
            _log.info("the run ends: %s", "; ".join(self.outcome.facts()))
        return self.outcome

    def _gate(self, session: pytest.Session) -> None:
        """If there are gates, have them decide the exit status instead of each task's failure."""
        outcome = self._conclude()
        if outcome is not None and outcome.gated:
            others = session.testsfailed - self._failed_reports
            session.testsfailed = others if outcome.met else max(session.testsfailed, 1)
        elif outcome is not None and outcome.trouble:
            session.testsfailed = max(session.testsfailed, 1)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, object, object]:
        """Write summary and report, even if the run was cut short; clean up after its workers."""
        self._conclude()
        if self.run.settings.shard is not None and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK  # there are more shards than tasks
        try:
            return (yield)  # pytest-xdist ends its workers in here
        finally:
            if self._scratch is not None:
                from pytest_shelleval.sandboxes.registry import clean_up

                clean_up(self.run.sandbox_spec)
                self._scratch.remove()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the outcome, or the forecast of ``--collect-only``."""
        outcome, asked = self.outcome, self.phase1.summary
        if outcome is None and asked is None and not self._forecast:
            return
        lines = list(self._forecast)
        if asked is not None:
            lines += inference_lines(asked, self.run.settings)
        if outcome is not None:
            lines += [*outcome.lines(), *self.recorder.lines()]
            if outcome.report is not None:
                here = self.config.invocation_params.dir
                lines.append(f"report: {relative(outcome.report, here)}")
        terminalreporter.ensure_newline()
        terminalreporter.section("shelleval")
        for line in lines:
            terminalreporter.write_line(inert(line))
        for command in () if outcome is None else outcome.annotations:
            terminalreporter.write_line(command)

    @pytest.hookimpl(optionalhook=True)
    def pytest_json_modifyreport(self, json_report: dict[str, Any]) -> None:
        """Add the summary to the report of pytest-json-report."""
        if self.outcome is not None:
            json_report["shelleval"] = dict(self.outcome.summary)

    def _summary(self) -> dict[str, Any]:
        from pytest_shelleval.core.summary import summarize

        run, settings, counts = self.run, self.run.settings, self.recorder.counts
        models = settings.model or tuple(filter(None, counts.models))
        asked = settings.phase != "execution"
        prices = settings.prices
        return summarize(
            counts,
            # of all commands that were run, even if an earlier run paid for them
            cost=None if prices is None else round(_cost(counts, prices), 6),
            total=self.recorder.total,
            replayed=len(self.recorder.replayed),
            kept=self.recorder.kept,
            shard=settings.shard,
            model_name=", ".join(models) or None,
            dataset_path=", ".join(settings.dataset) or str(settings.commands_file),
            evaluation_time=round(time.monotonic() - self._started, 3),
            versions=versions(),
            dataset_sha256=run.sha256,
            prompt_sha256=self.phase1.template.sha256 if asked else None,
            git_commit=git_commit(run.rootdir),
            settings=settings.public(),
        )


def _cost(counts: ResultCounts, prices: Prices) -> float:
    direct = counts.usage - counts.batch_usage
    return prices.cost(direct) + prices.cost(counts.batch_usage, batch=True)
