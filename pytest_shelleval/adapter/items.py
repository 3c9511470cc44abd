"""Collects a dataset as a pytest file, and its tasks as pytest items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_shelleval.adapter.run import Case, Run
from pytest_shelleval.core.errors import UserError

if TYPE_CHECKING:
    from pytest_shelleval.core.commands import Command, CommandStore
    from pytest_shelleval.core.execution import Execution
    from pytest_shelleval.core.results import Result
    from pytest_shelleval.core.sandbox import Sandbox, SandboxProvider
    from pytest_shelleval.settings.settings import Settings


class NotPassed(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by an item whose result is ``failed``; the result explains it."""


class InferenceFailed(Exception):  # noqa: N818 - reports show the name
    """There is no command to run: an error, not a failure of the model."""


Facts = tuple[tuple[str, Any], ...]
"""The keyword arguments of an item's marker."""


class DatasetFile(pytest.File):
    """A dataset; collects one item per task, model and sample."""

    run: Run
    number: int

    @classmethod
    def build(cls, parent: pytest.Collector, run: Run, number: int) -> DatasetFile:
        """The file of source *number* of *run*."""
        source = run.sources[number]
        # pytest's own node id of a file outside rootdir is empty
        file: DatasetFile = cls.from_parent(parent, path=source.path, nodeid=source.nodeid)
        file.run = run
        file.number = number
        return file

    def collect(self) -> Iterator[pytest.Item]:
        """One item per task, model and sample."""
        try:
            self.run.tasks, self.run.variants  # noqa: B018 - loads and checks
        except UserError as error:
            raise self.CollectError(str(error)) from error
        marks: dict[Facts, pytest.MarkDecorator] = {}
        shared: dict[str, Any] = {}
        for name, case in self.run.cases_of(self.number):
            item: TaskItem = TaskItem.from_parent(self, name=name, callobj=run_task, **shared)
            item.prepare(case, marks)
            if not shared:
                # all items have the same fixtures: found once, as for parametrised tests
                shared["fixtureinfo"] = getattr(item, "_fixtureinfo", None)
            yield item


def deselect_other_shards(config: pytest.Config, run: Run, items: list[pytest.Item]) -> None:
    """Deselect the tasks in *items* that are not in this run's shard; other tests stay."""
    ids = run.shard_ids
    if ids is None:
        return
    others = [
        item for item in items if isinstance(item, TaskItem) and item.case.task.task_id not in ids
    ]
    if others:
        gone = set(others)
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in gone]


class TaskItem(pytest.Function):
    """One command for one task, run and judged in a sandbox of its own."""

    case: Case
    execution: Execution | None
    result: Result | None
    origin: str | None
    """``replayed`` if the result comes from an earlier run, ``reused`` if from another item with the
    same execution; then nothing is executed. Else None."""
    ahead: bool
    """Whether the engine has executed it, so that its fixtures have nothing to do."""
    _shared: str | None

    @property
    def run(self) -> Run:
        """The run that this item belongs to."""
        file = self.getparent(DatasetFile)
        assert file is not None
        return file.run

    def prepare(self, case: Case, marks: dict[Facts, pytest.MarkDecorator]) -> None:
        """Set *case*; its tags become keywords and markers for ``-k`` and ``-m``.

        *marks* holds the markers of earlier items, to be shared.
        """
        self.case = case
        # set together, in one place, so that items share the table of their attributes' names
        self.execution, self.result, self.origin, self._shared = None, None, None, None
        self.ahead = False
        task = case.task
        facts: dict[str, Any] = {}
        if case.model is not None:
            facts["model"] = case.model
        if task.difficulty_level is not None:
            facts["difficulty_level"] = task.difficulty_level
        # a marker per tag: -m "shelleval(tag='git')" compares with one value
        for tag in task.tags or (None,):
            own = facts if tag is None else facts | {"tag": tag}
            key = tuple(own.items())
            if key not in marks:
                marks[key] = pytest.mark.shelleval(**own)
            self.add_marker(marks[key])
        self.extra_keyword_matches.update(map(str.lower, task.tags))

    def forget(self) -> None:
        """Free the result once it is reported, so that memory stays bounded in a long run."""
        self.result = self.execution = None

    def setup(self) -> None:
        """Use an available or pending result; else set up the fixtures to execute the task."""
        from pytest_shelleval.adapter.reuse import reuse_of

        reuse = reuse_of(self.config, self.run)
        self.origin, self.ahead = None, False
        self.result = reuse.replayed(self.nodeid)
        if self.result is not None:
            self.origin = "replayed"
            return
        self._shared = reuse.shared_key(self.case)
        known = reuse.known(self.nodeid, self._shared)
        if known is not None:
            self._reuse(known)
            return
        _current.append(self)
        if not self._take():
            super().setup()

    def _take(self) -> bool:
        """Take the result from the executions ahead of pytest; return whether there is one."""
        from pytest_shelleval.adapter.ahead import AHEAD

        ahead = self.config.stash.get(AHEAD, None)
        taken = None if ahead is None else ahead.take(self)
        if taken is None:
            return False
        result, runner = taken
        if runner == self.nodeid:
            self.result, self.ahead = result, True
        else:
            self._reuse(replace(result, reused_from=runner))
        if not _ITEM_FIXTURES.issuperset(self.fixturenames):
            # set up the autouse fixtures of others, but none that is only for executing
            self.funcargs.update(dict.fromkeys(_ITEM_FIXTURES))
            super().setup()
        return True

    def _reuse(self, result: Result) -> None:
        from pytest_shelleval.core.replay import passed_on

        found = self.run.command_for(self.case)
        assert found.command is not None, "only commands have a shared key"
        self.origin = "reused"
        self.result = passed_on(result, self.case.task, found.command)

    def settle(self) -> None:
        """Share the result with items that have the same execution; may be repeated."""
        from pytest_shelleval.adapter.reuse import reuse_of

        if self._shared is not None and self.result is not None:
            reuse_of(self.config, self.run).keep(self.nodeid, self._shared, self.result)
            self._shared = None

    def teardown(self) -> None:
        """Tear down; fixtures are already torn down."""
        if self in _current:
            _current.remove(self)
        super().teardown()

    def runtest(self) -> None:
        """Run the task, or report the result that it already has."""
        if self.origin is None and not self.ahead:
            super().runtest()
        elif self.result is not None and self.result.status != "passed":
            raise NotPassed(self.result.status)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Path, line (from 0) and name, for reports."""
        _, _, line = self.case.task.source.rpartition(":")
        return self.path, int(line) - 1 if line.isdigit() else None, self.name

    def explained(self, error: BaseException) -> str | None:
        """The report's text for *error*; None if the error does not come from this plugin."""
        from pytest_shelleval.core.errors import ShellevalError
        from pytest_shelleval.report.explain import explain
        from pytest_shelleval.report.words import visible

        if isinstance(error, InferenceFailed):
            return visible(f"inference error: {error}\n\ntask       {self.case.task.task}")
        if isinstance(error, (NotPassed, ShellevalError)) and self.result is not None:
            return explain(self.result, self._reproduction())
        return None

    def _reproduction(self) -> str:
        from pytest_shelleval.adapter.terminal import relative
        from pytest_shelleval.report.recorded import reproduction

        folder = self.run.settings.output_dir
        return reproduction(relative(folder, self.config.invocation_params.dir), self.name)


_ITEM_FIXTURES = frozenset(
    {
        "pytestconfig",
        "request",
        "shelleval_command",
        "shelleval_commands",
        "shelleval_sandbox",
        "shelleval_sandboxes",
        "shelleval_settings",
        "shelleval_task",
    }
)
"""The fixtures that an item needs to execute."""

_current: list[TaskItem] = []
"""The items being set up or run; a pytest run inside a test pushes its own on top."""


def run_task(
    request: pytest.FixtureRequest,
    shelleval_settings: Settings,
    shelleval_commands: CommandStore,
    shelleval_sandboxes: SandboxProvider,
    shelleval_command: Command,
    shelleval_sandbox: Sandbox,
) -> None:
    """The call phase of an item: run command and condition, and judge the result."""
    item: TaskItem = request.node
    execution = item.execution
    if execution is None:  # the user overrides the fixture shelleval_sandbox
        execution = start_execution(item, shelleval_command)
    item.result = execution.result

    def score(result: Result, sandbox: Sandbox) -> float | None:
        found: float | None = request.config.hook.pytest_shelleval_score(
            task=item.case.task, result=result, sandbox=sandbox
        )
        return found

    result = execution.run(shelleval_sandbox, score=score)
    if execution.policy.executions > 1:
        from pytest_shelleval.core.repetition import repeat

        result = repeat(execution, score=score)
    if result.status != "passed":
        raise NotPassed(result.status)


def current_item() -> TaskItem:
    """The item whose fixtures are being set up. Raises pytest.UsageError if it is not a TaskItem."""
    if not _current:
        raise pytest.UsageError(
            "only items of a --shelleval-dataset can use the fixture shelleval_task"
        )
    return _current[-1]


def start_execution(item: TaskItem, command: Command) -> Execution:
    """Create the execution of *item*; its result goes into the report."""
    from pytest_shelleval.core.execution import Execution

    settings = cast("Settings", item.funcargs["shelleval_settings"])
    sandboxes = cast("SandboxProvider", item.funcargs["shelleval_sandboxes"])
    execution = Execution(
        item.case.task,
        command,
        sandboxes,
        settings.policy,
        worker=item.run.worker,
    )
    key = item.run.execution_key(item.case.task, command, settings.policy)
    execution.result.execution_key = key
    item.execution = execution
    item.result = execution.result
    return execution


def find_command(item: TaskItem, commands: CommandStore) -> Command:
    """The command that *item* has to run.

    Raises InferenceFailed if there is none, and NotPassed if the model replied without a command;
    the item's result then says why.
    """
    from pytest_shelleval.core.results import Result, empty_command

    case = item.case
    found = item.run.command_for(case, commands)
    if found.command is not None and not found.lack:
        return found.command
    stand_in = empty_command(case.task, case.model, case.sample)
    item.result = Result.of(case.task, found.command or stand_in)
    item.result.execution_key = found.execution_key
    if found.command is not None and found.command.answered:
        item.result.fail_without_command(found.lack)
        raise NotPassed(found.lack)
    item.result.fail_as_error("inference", found.lack)
    raise InferenceFailed(found.lack)
