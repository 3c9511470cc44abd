"""The state of a run in one process of pytest: settings, datasets, tasks, commands.

The controller and each xdist worker have one, in ``config.stash``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.names import suffix
from pytest_shelleval.settings.settings import Settings

if TYPE_CHECKING:
    from pytest_shelleval.core.commands import Command, CommandStore
    from pytest_shelleval.core.execution import ExecutionPolicy
    from pytest_shelleval.core.replay import ExecutionKeys, Replay
    from pytest_shelleval.core.tasks import Row, Task
    from pytest_shelleval.sandboxes.base import SandboxSpec

_NO_COMMANDS = (
    "run --shelleval-phase=inference first, or name the file with --shelleval-commands-file"
)


@dataclass(frozen=True, slots=True)
class Source:
    """One dataset of the run."""

    name: str
    """As the user gave it."""
    path: Path
    """The file that pytest collects."""
    nodeid: str
    copy: Path | None = None
    """The controller's copy of the rows, if the format is slow to read."""


@dataclass(frozen=True, slots=True)
class Case:
    """The subject of one item: one sample of one model for one task."""

    task: Task
    model: str | None
    """None for the model of the commands file, whichever it is."""
    sample: int


@dataclass(frozen=True, slots=True)
class CaseCommand:
    """The command to run for a case, or why there is none."""

    command: Command | None
    """With the dataset's setup and condition. None if the model was not asked for this task, or for
    another text of it."""
    lack: str
    """Why there is nothing to run; else empty."""
    execution_key: str


class Run:
    """The run as this process sees it; everything is loaded on first use."""

    def __init__(self, settings: Settings, rootdir: Path, directory: Path, cache: Path) -> None:
        self.settings = settings
        self.rootdir = rootdir
        self.directory = directory
        """Where pytest was started."""
        self.worker = "main"
        """The name of this process in results."""
        self.sources = self._find_sources(cache)
        self.sandbox_kind = settings.sandbox
        """The kind that ``auto`` stands for, once the controller has chosen it."""
        self.workers = 1
        self.state_directory: Path | None = None
        """A temporary folder that the processes of this run share; None before the run begins."""
        self._keys: dict[ExecutionPolicy, ExecutionKeys] = {}
        self.without_dataset = not self.sources
        if self.without_dataset:
            self.sources = [self._commands_source()]

    def _find_sources(self, cache: Path) -> list[Source]:
        """The datasets; *cache* is for copies of them. Raises UserError if one does not exist."""
        return [
            _source(name, self.rootdir, self.directory, cache, self.settings.split)
            for name in self.settings.dataset
        ]

    def _commands_source(self) -> Source:
        """commands.jsonl as the source if there is no dataset. Raises UserError if it does not exist."""
        self._check_commands_file()
        file = _as_collected(self.settings.commands_file, self.rootdir)
        return Source(file.name, file, os.path.relpath(file, self.rootdir))

    def check_commands(self) -> None:
        """Check that there are commands to execute. Raises UserError."""
        self._check_commands_file()
        if not len(self.commands):
            raise UserError(f"no commands found in {self.settings.commands_file}; {_NO_COMMANDS}")

    def _check_commands_file(self) -> None:
        file = self.settings.commands_file
        if not file.is_file():
            raise UserError(f"{file}: no such file; {_NO_COMMANDS}")

    def receive(self, workerinput: Mapping[str, Any]) -> None:
        """In an xdist worker, apply what :func:`send_run` sent."""
        self.worker = workerinput["workerid"]
        self.workers = workerinput["workercount"]
        self.sandbox_kind = workerinput.get("shelleval_sandbox_kind", self.sandbox_kind)
        state = workerinput.get("shelleval_state_directory")
        self.state_directory = None if state is None else Path(state)

    @property
    def sandbox_spec(self) -> SandboxSpec:
        """Which sandboxes to use, with the controller's choices."""
        return replace(
            self.settings.sandbox_spec,
            kind=self.sandbox_kind,
            workers=self.workers,
            state_directory=self.state_directory,
        )

    @cached_property
    def tasks(self) -> list[list[Task]]:
        """The tasks of each source. Raises UserError that lists broken rows, or names an empty source."""
        from pytest_shelleval.core.tasks import build_tasks

        if self.without_dataset:
            self.check_commands()
            tasks = self.commands.tasks()
            count = self.settings.max_samples
            return [tasks if count is None else tasks[:count]]
        found = build_tasks(map(self._rows, self.sources), max_samples=self.settings.max_samples)
        for source, tasks in zip(self.sources, found, strict=True):
            if not tasks:
                raise UserError(
                    f"dataset {source.name}: there are no rows in it; add a task, or name another "
                    "dataset with --shelleval-dataset"
                )
        return found

    @cached_property
    def commands(self) -> CommandStore:
        """commands.jsonl, loaded. Raises UserError that lists the broken lines."""
        return self._load_commands()

    def _load_commands(self) -> CommandStore:
        from pytest_shelleval.core.commands import CommandStore

        store = CommandStore(self.settings.commands_file)
        store.load()
        return store

    @cached_property
    def variants(self) -> list[tuple[str | None, int]]:
        """Model and sample of the items of each task."""
        models: list[str | None] = list(self.settings.model)
        samples = self.settings.samples
        if self.settings.phase == "execution":
            models = models or list(self.commands.models()) or [None]
            if "samples" not in self.settings.given:
                samples = max(self.commands.samples, 1)
        return [(model, sample) for model in models for sample in range(samples)]

    @cached_property
    def cases(self) -> dict[str, Case]:
        """Every case by the node id of its item."""
        return {
            f"{source.nodeid}::{name}": case
            for number, source in enumerate(self.sources)
            for name, case in self.cases_of(number)
        }

    def cases_of(self, number: int) -> Iterator[tuple[str, Case]]:
        """Name and case of each item of source *number*."""
        models = len({model for model, _ in self.variants})
        samples = len({sample for _, sample in self.variants})
        suffixes = [
            suffix(model if models > 1 else None, sample if samples > 1 else None)
            for model, sample in self.variants
        ]
        for task in self.tasks[number]:
            asked = self._asked(task)
            for ending, (model, sample) in zip(suffixes, self.variants, strict=True):
                if model in asked:
                    yield task.task_id + ending, Case(task, model, sample)

    def _asked(self, task: Task) -> set[str | None]:
        """The models to evaluate on *task*; without a dataset, those that have a command for it.

        A commands file may hold several runs with different tasks and models.
        """
        models = {model for model, _ in self.variants}
        if not self.without_dataset:
            return models
        store, samples = self.commands, {sample for _, sample in self.variants}
        return {
            model
            for model in models
            if any(store.pair_for(task, model, sample) for sample in samples)
        }

    def let_go(self) -> None:
        """Free the commands: they are not needed after execution."""
        commands = self.__dict__.pop("commands", None)
        if commands is not None:
            commands.close()

    def command_for(self, case: Case, commands: CommandStore | None = None) -> CaseCommand:
        """The command for *case* in *commands*, by default commands.jsonl."""
        task = case.task
        store = self.commands if commands is None else commands
        command = store.for_execution(task, case.model, case.sample)
        lack = ""
        if command is None:
            lack = "commands.jsonl has no command for this task; run --shelleval-phase=inference"
        elif command.task != task.task:
            command = None
            lack = (
                "the command in commands.jsonl is for another text of this task; run "
                "--shelleval-phase=inference again"
            )
        else:
            # setup and condition come from the dataset, which may have changed since inference
            command = replace(
                command,
                setup_commands=list(task.setup_commands),
                success_condition=task.success_condition,
            )
            if command.generated_command is None:
                lack = command.error or "the model gave no command"
        return CaseCommand(command, lack, self.execution_key(task, command))

    def execution_key(
        self, task: Task, command: Command | None, policy: ExecutionPolicy | None = None
    ) -> str:
        """The ``execution_key`` of *command* for *task*; *policy* None means that of the settings."""
        from pytest_shelleval.core.replay import ExecutionKeys
        from pytest_shelleval.sandboxes.registry import identity

        policy = policy or self.settings.policy
        if policy not in self._keys:
            self._keys[policy] = ExecutionKeys(policy, identity(self.sandbox_spec))
        return self._keys[policy].of(task, command)

    @cached_property
    def shard_ids(self) -> frozenset[str] | None:
        """Ids of the tasks in this run's shard; None without ``--shelleval-shard``."""
        if self.settings.shard is None:
            return None
        from pytest_shelleval.core.shards import parse_shard, tasks_of

        ids = (task.task_id for tasks in self.tasks for task in tasks)
        return tasks_of(parse_shard(self.settings.shard), ids)

    @property
    def replay_file(self) -> Path | None:
        """The file in which the controller tells its workers which results are replayed."""
        return None if self.state_directory is None else self.state_directory / "replay.json"

    @cached_property
    def replay(self) -> Replay | None:
        """The results to replay, once the controller has determined them; None if there are none."""
        from pytest_shelleval.core.replay import Replay

        if not self.settings.resume or self.replay_file is None:
            return None
        return Replay.load(self.replay_file)

    def copy_slow_datasets(self) -> None:
        """Copy datasets that are slow to read, so that each is read once for all processes."""
        from pytest_shelleval.core.datasets import read_rows, write_copy

        for source in self.sources:
            if source.copy is not None:
                rows = read_rows(source.name, split=self.settings.split, base=self.directory)
                write_copy(rows, source.copy)

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the dataset's file; of several, the SHA-256 of their digests."""
        from pytest_shelleval.core.datasets import sha256_of

        digests = [sha256_of(source.copy or source.path) for source in self.sources]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def _rows(self, source: Source) -> Iterable[Row]:
        from pytest_shelleval.core.datasets import read_copy, read_rows

        if source.copy is not None:
            return read_copy(source.copy)
        return read_rows(source.name, base=self.directory)


RUN: pytest.StashKey[Run] = pytest.StashKey()


def send_run(run: Run, workerinput: dict[str, Any]) -> None:
    """Send an xdist worker what the controller has chosen."""
    state = run.state_directory
    workerinput["shelleval_sandbox_kind"] = run.sandbox_kind
    workerinput["shelleval_state_directory"] = None if state is None else str(state)


def run_of(config: pytest.Config) -> Run | None:
    """The run of *config*; None if shelleval is not in use."""
    return config.stash.get(RUN, None)


def _source(name: str, rootdir: Path, directory: Path, cache: Path, split: str) -> Source:
    from pytest_shelleval.core.datasets import is_hub_name, is_quick

    path = _as_collected(directory / name, rootdir)
    nodeid = os.path.relpath(path, rootdir)
    if path.is_file():
        copied = not is_quick(path)
    elif path.is_dir() or is_hub_name(name):
        nodeid = f"{nodeid if path.is_dir() else name}[{split}]"
        copied = True
    else:
        raise UserError(f"dataset {name}: no such file or folder")
    if not copied:
        return Source(name, path, nodeid)
    stem = hashlib.sha256(f"{path}\0{split}".encode()).hexdigest()[:12]
    copy = cache / f"{path.stem}-{stem}.jsonl"
    return Source(name, path if path.is_file() else copy, nodeid, copy)


def _as_collected(path: Path, rootdir: Path) -> Path:
    """*path* as pytest writes it: absolute, without ``..``, and with its symbolic links."""
    plain = Path(os.path.abspath(path))
    if path.exists() and not (plain.exists() and plain.samefile(path)):
        plain = path.resolve()  # ".." after a link to a folder leads elsewhere
    real, root = plain.resolve(), rootdir.resolve()
    if real.is_relative_to(root) and not plain.is_relative_to(rootdir):
        return rootdir / real.relative_to(root)  # a link leads into rootdir, or rootdir is a link
    return plain
