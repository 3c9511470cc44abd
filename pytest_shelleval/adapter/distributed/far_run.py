"""The run as a worker on another machine sees it: all of it comes from the controller."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_shelleval.adapter.distributed.arrival import Arrival
from pytest_shelleval.adapter.run import Run, Source
from pytest_shelleval.core.errors import UserError

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.core.commands import CommandStore
    from pytest_shelleval.core.replay import Replay
    from pytest_shelleval.core.tasks import Row


class FarRun(Run):
    """A :class:`Run` without the controller's files."""

    def __init__(self, arrival: Arrival, rootdir: Path, directory: Path) -> None:
        """Raises UserError when the datasets can't be had."""
        self._arrival = arrival
        letter = arrival.letter
        commands = arrival.folder.path / "files" / "commands.jsonl"
        settings = replace(
            arrival.settings, commands_file=commands, sos_permits=letter["sos_permits"]
        )
        super().__init__(settings, rootdir, directory, directory)
        self.sandbox_kind = letter["sandbox_kind"]
        self.state_directory = arrival.folder.path
        self.workers = letter["workers"]

    def receive(self, workerinput: Mapping[str, Any]) -> None:
        """Take over what the controller has settled; most came before."""
        self.worker = f"{workerinput['workerid']}@{self._arrival.machine}"

    def _find_sources(self, cache: Path) -> list[Source]:
        found = []
        for number, (name, nodeid) in enumerate(self._arrival.letter["sources"]):
            rows = self._arrival.file(f"rows-{number}.jsonl")
            found.append(Source(name, self._collected(nodeid) or rows, nodeid, rows))
        return found

    def _commands_source(self) -> Source:
        name, nodeid = self._arrival.letter["commands_source"]
        path = self._arrival.file("commands.jsonl")
        return Source(name, path, nodeid, path)

    def _collected(self, nodeid: str) -> Path | None:
        """The project's own file, where the project is here too: then its conftest.py counts."""
        for folder in (self.rootdir, self.rootdir / self._arrival.letter["project"]):
            path = Path(os.path.abspath(folder / nodeid))
            if path.is_file():
                return path
        return None

    def check_own(self, config: pytest.Config) -> None:
        """Raises UserError where hooks or fixtures of the user's own are not on this machine."""
        from pytest_shelleval.adapter.reuse import own_names

        lacking = sorted(set(self._arrival.letter["own"]) - own_names(config))
        if lacking:
            raise UserError(
                f"{self._arrival.machine} lacks the run's own {', '.join(lacking)}: conftest.py or a "
                "plugin is not there; put the project into the folder of chdir=, or name it with "
                "--rsyncdir"
            )

    @cached_property
    def commands(self) -> CommandStore:
        """The controller's commands.jsonl, loaded."""
        self._arrival.file("commands.jsonl")
        return self._load_commands()

    @cached_property
    def replay(self) -> Replay | None:
        """What is replayed; None where nothing is."""
        from pytest_shelleval.core.replay import Replay

        if not self.settings.resume:
            return None
        replay = Replay.load(self._arrival.file("replay.json"))
        if not replay.offsets:
            return None
        return replace(replay, results=self._arrival.file("results.jsonl"))

    def _rows(self, source: Source) -> Iterable[Row]:
        from pytest_shelleval.core.datasets import read_copy

        assert source.copy is not None
        return read_copy(source.copy)

    def leave(self) -> None:
        """This worker ends."""
        self._arrival.depart()
