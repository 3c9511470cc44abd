"""The pytest plugin: hooks of a few lines that delegate to the adapter.

Nothing heavy is imported here: this module is imported in every run of pytest.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_shelleval.adapter.fixtures import (
    shelleval_command,
    shelleval_commands,
    shelleval_sandbox,
    shelleval_sandboxes,
    shelleval_settings,
    shelleval_task,
)
from pytest_shelleval.adapter.options import add_options
from pytest_shelleval.adapter.run import RUN, Run, run_of
from pytest_shelleval.core import redaction
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.settings.resolve import is_active, resolve

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "shelleval_command",
    "shelleval_commands",
    "shelleval_sandbox",
    "shelleval_sandboxes",
    "shelleval_settings",
    "shelleval_task",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks of this plugin."""
    from pytest_shelleval.adapter import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Add the datasets to pytest's arguments, as if the user had typed their paths."""
    flags = vars(early_config.known_args_namespace)
    try:
        run = _run_for(early_config, flags)
        if run is None:
            return
        early_config.stash[RUN] = run
        if "PYTEST_XDIST_WORKER" not in os.environ:
            run.copy_slow_datasets()
    except UserError as error:
        from pytest_shelleval.adapter.shown import usage_error

        raise usage_error(error) from error
    named = {os.path.abspath(arg.partition("::")[0]) for arg in flags["file_or_dir"] or ()}
    args += [str(source.path) for source in run.sources if str(source.path) not in named]


def _run_for(config: pytest.Config, flags: Mapping[str, Any]) -> Run | None:
    """The run that the options ask for; None if shelleval is not in use. Raises UserError."""
    directory = config.invocation_params.dir
    settings = resolve(flags, os.environ, config.getini, directory)
    if not is_active(settings, flags):
        return None
    return Run(settings, config.rootpath, directory, _cache_directory(config))


def pytest_configure(config: pytest.Config) -> None:
    """Register the controller, or set up an xdist worker, if shelleval is in use."""
    config.addinivalue_line(
        "markers",
        "shelleval(tag, difficulty_level, model): put on the items of a shelleval dataset, "
        "for -m \"shelleval(tag='git')\"",
    )
    run = run_of(config)
    if run is None:
        return
    if hasattr(config, "workerinput"):
        run.receive(config.workerinput)
        return
    from pytest_shelleval.adapter.controller import Controller

    controller = Controller(config, run)
    config.pluginmanager.register(controller, "shelleval-controller")
    if config.pluginmanager.hasplugin("xdist"):
        from pytest_shelleval.adapter.distributed import XdistHooks

        config.pluginmanager.register(XdistHooks(controller), "shelleval-xdist")


def pytest_sessionstart(session: pytest.Session) -> None:
    """In a worker, log to the controller's debug.log."""
    config = session.config
    run = run_of(config)
    if run is None or not hasattr(config, "workerinput"):
        return
    from pytest_shelleval.adapter.logs import start_worker

    start_worker(config, run)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Start no workers for phase 1 alone; treat ``--setup-only`` as ``--setup-plan``."""
    run = run_of(config)
    if run is not None and getattr(config.option, "setuponly", False):
        config.option.setupplan = True  # setting up a task would execute its commands
    if run is not None and run.settings.phase == "inference":
        config.option.numprocesses = None
        config.option.dist = "no"
        config.option.tx = []


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the datasets of the run."""
    run = run_of(parent.config)
    if run is None:
        return None
    from pytest_shelleval.adapter.items import DatasetFile

    for number, source in enumerate(run.sources):
        if source.path == file_path:
            return DatasetFile.build(parent, run, number)
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tasks of other shards."""
    run = run_of(config)
    if run is not None and run.settings.shard is not None:
        from pytest_shelleval.adapter.items import deselect_other_shards

        deselect_other_shards(config, run, items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the item's result to its report."""
    report = yield
    if run_of(item.config) is not None:
        from pytest_shelleval.adapter.items import TaskItem
        from pytest_shelleval.adapter.transport import complete_report

        if isinstance(item, TaskItem):
            complete_report(item, call, report)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Set the phase by which pytest tells errors from failures; redact secrets in the report."""
    phase = vars(report).pop("shelleval_phase", None)
    if phase is not None:
        report.when = phase
    _hide_secrets(report)


@pytest.hookimpl(tryfirst=True)
def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Redact secrets in the report."""
    _hide_secrets(report)


@pytest.hookimpl(tryfirst=True)
def pytest_internalerror(excrepr: object) -> None:
    """Redact secrets in the traceback."""
    from pytest_shelleval.adapter.shown import rewritten

    rewritten(excrepr, redaction.redacted)


def _hide_secrets(report: pytest.TestReport | pytest.CollectReport) -> None:
    if redaction.is_needed():
        from pytest_shelleval.adapter.shown import rewrite_report

        rewrite_report(report, redaction.redacted)


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, str] | None:
    """Show replayed and reused results by a small letter and a longer word."""
    origin = getattr(report, "shelleval_origin", None)
    if origin is None or report.when != "call" or report.outcome == "skipped":
        return None
    return report.outcome, report.outcome[0], f"{report.outcome.upper()} ({origin})"


def _cache_directory(config: pytest.Config) -> Path:
    try:
        name = config.getini("cache_dir")
    except ValueError:  # -p no:cacheprovider
        name = ".pytest_cache"
    return Path(config.rootpath, os.path.expandvars(name), "d", "shelleval")
