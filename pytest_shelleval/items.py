"""The dataset as a pytest file, each of its tasks as a pytest item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.run import Run, Subject

if TYPE_CHECKING:
    from pytest_shelleval.core.commands import Command, CommandStore
    from pytest_shelleval.core.execution import Execution
    from pytest_shelleval.core.results import Result
    from pytest_shelleval.core.sandbox import Sandbox
    from pytest_shelleval.core.tasks import Task


class NotPassed(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by an item whose result is ``failed``; the result explains it."""


class InferenceFailed(Exception):  # noqa: N818 - what happened, as reports say it
    """There is no command to run: an error, not a failure of the model."""


class DatasetFile(pytest.File):
    """A dataset; collects one item per task, model and sample."""

    run: Run
    number: int

    @classmethod
    def build(cls, parent: pytest.Collector, run: Run, number: int) -> DatasetFile:
        """The file of source *number* of *run*."""
        source = run.sources[number]
        path = source.path
        inside = _inside(path, run.rootdir)
        # a file outside rootdir would get an empty node id
        nodeid: dict[str, Any] = {} if inside and not source.copy else {"nodeid": source.nodeid}
        file: DatasetFile = cls.from_parent(parent, path=path, **nodeid)
        file.run = run
        file.number = number
        return file

    def collect(self) -> Iterator[pytest.Item]:
        """One item per task, model and sample."""
        try:
            subjects = list(self.run.subjects_of(self.number))
        except UserError as error:
            raise self.CollectError(str(error)) from error
        for name, subject in subjects:
            item: TaskItem = TaskItem.from_parent(self, name=name, callobj=run_task)
            item.prepare(subject)
            yield item


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


class TaskItem(pytest.Function):
    """One command for one task, run and judged in a sandbox of its own."""

    subject: Subject
    execution: Execution | None = None
    result: Result | None = None

    def prepare(self, subject: Subject) -> None:
        """Take on *subject*: its tags become keywords and markers for ``-k`` and ``-m``."""
        self.subject = subject
        task = subject.task
        facts: dict[str, Any] = {}
        if subject.model is not None:
            facts["model"] = subject.model
        if task.difficulty_level is not None:
            facts["difficulty_level"] = task.difficulty_level
        # a marker per tag: -m "shelleval(tag='git')" compares with one value
        for tag in task.tags or (None,):
            own = facts if tag is None else facts | {"tag": tag}
            self.add_marker(pytest.mark.shelleval(**own))
        self.extra_keyword_matches.update(map(str.lower, task.tags))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Path, line (from 0) and name, for reports."""
        _, _, line = self.subject.task.source.rpartition(":")
        return self.path, int(line) - 1 if line.isdigit() else None, self.name

    def explained(self, error: BaseException) -> str | None:
        """The report's text for *error*, None for an error that is not of this plugin's making."""
        from pytest_shelleval.core.errors import ShellevalError
        from pytest_shelleval.explain import explain
        from pytest_shelleval.report.words import visible

        if isinstance(error, InferenceFailed):
            return visible(f"inference error: {error}\n\ntask       {self.subject.task.task}")
        if isinstance(error, (NotPassed, ShellevalError)) and self.result is not None:
            return explain(self.result)
        return None


def run_task(
    request: pytest.FixtureRequest, shelleval_command: Command, shelleval_sandbox: Sandbox
) -> None:
    """What an item does in its call phase: run command and condition, and judge."""
    item: TaskItem = request.node
    execution = item.execution
    if execution is None:  # the user's own shelleval_sandbox
        execution = item.execution = start_execution(request, shelleval_command)
    item.result = execution.result

    def score(result: Result, sandbox: Sandbox) -> float | None:
        found: float | None = request.config.hook.pytest_shelleval_score(
            task=item.subject.task, result=result, sandbox=sandbox
        )
        return found

    result = execution.run(shelleval_sandbox, score=score)
    if result.status != "passed":
        raise NotPassed(result.failure_reason())


def start_execution(request: pytest.FixtureRequest, command: Command) -> Execution:
    """The execution of the item that *request* belongs to; its result goes into the report."""
    from pytest_shelleval.core.execution import Execution

    item: TaskItem = request.node
    settings = request.getfixturevalue("shelleval_settings")
    execution = Execution(
        item.subject.task,
        command,
        request.getfixturevalue("shelleval_sandboxes"),
        settings.policy,
        worker=getattr(request.config, "workerinput", {}).get("workerid", "main"),
    )
    item.execution = execution
    item.result = execution.result
    return execution


def find_command(item: TaskItem, task: Task, commands: CommandStore) -> Command:
    """The command that *item* is to run.

    Raises InferenceFailed when there is none, and NotPassed when the model did reply, but with no
    command in it; the item's result then says why.
    """
    from pytest_shelleval.core.results import Result, empty_command

    subject = item.subject
    command = commands.for_execution(task, subject.model, subject.sample)
    if command is not None and command.task != task.task:
        reason = (
            "the command in commands.jsonl is for another text of this task; ask the model anew"
        )
        command = None
    elif command is None:
        reason = "commands.jsonl has no command for this task; run --shelleval-phase=inference"
    else:
        # the dataset is the truth for what is run around the command
        command = replace(
            command,
            setup_commands=list(task.setup_commands),
            success_condition=task.success_condition,
        )
        if command.generated_command is not None:
            return command
        reason = command.error or "the model gave no command"
    item.result = Result.of(task, command or empty_command(task, subject.model, subject.sample))
    if command is not None and command.raw_response is not None:
        item.result.fail_without_command(reason)
        raise NotPassed(reason)
    item.result.fail_as_error("inference", reason)
    raise InferenceFailed(reason)
