"""The far side: what a worker on another machine is given before its pytest starts.

The controller runs :func:`begin` there. Files come when they are first needed, once for all workers
of a machine, over a channel that stays open as long as the worker.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_shelleval.adapter.distributed.folder import SharedFolder
from pytest_shelleval.core.errors import SandboxUnavailable, UserError
from pytest_shelleval.core.files import locked, replace_file
from pytest_shelleval.core.redaction import redacted
from pytest_shelleval.settings.settings import Settings

if TYPE_CHECKING:
    from execnet import Channel

    from pytest_shelleval.sandboxes.registry import Wish

_received: Arrival | None = None


class Arrival:
    """What came from the controller."""

    def __init__(self, letter: dict[str, Any], wire: Channel) -> None:
        """Raises UserError where this machine has no room for it."""
        self.letter = letter
        self.machine = socket.gethostname()
        self.settings = unpacked(letter["settings"])
        self.folder = SharedFolder(letter["run"], self._clean_up)
        self._wire = wire

    @property
    def wish(self) -> Wish:
        """Which sandboxes to use, as the controller has settled it."""
        return replace(self.settings.wish, kind=self.letter["sandbox_kind"])

    def file(self, name: str) -> Path:
        """The file that the controller calls *name*, brought here if need be.

        Raises UserError when it can't be had.
        """
        path = self.folder.path / "files" / name
        if not path.exists():
            with locked(self.folder.path / f"{name}.lock"):
                if not path.exists():
                    self._fetch(name, path)
        return path

    def _fetch(self, name: str, path: Path) -> None:
        part = path.with_name(f"{name}.part")
        try:
            self._wire.send(name)
            with part.open("wb") as file:
                while isinstance(piece := self._wire.receive(), bytes):
                    file.write(piece)
            if isinstance(piece, str):
                raise UserError(piece)
            part.replace(path)
        except (OSError, EOFError) as error:
            raise UserError(f"{self.machine}: {name} could not be brought here: {error}") from error

    def check_sandbox(self) -> str:
        """The kind of sandbox that works here, tried once per machine and run.

        Raises SandboxUnavailable.
        """
        from pytest_shelleval.sandboxes.registry import check

        path = self.folder.path / "sandbox"
        with locked(self.folder.path / "sandbox.lock"):
            if not path.exists():
                replace_file(path, check(self.wish))
            return path.read_text()

    def depart(self) -> None:
        """This worker ends. A socket's server lives on, and may serve another run."""
        global _received
        _received = None
        self.folder.leave()

    def _clean_up(self, folder: Path) -> None:
        from pytest_shelleval.sandboxes.registry import clean_up

        clean_up(replace(self.wish, state_directory=folder))


def begin(channel: Channel) -> None:
    """Take what the controller sends, and answer whether this machine can be used."""
    global _received
    letter, wire = channel.receive()
    try:
        _received = Arrival(json.loads(letter), wire)
        if _received.letter["check"]:
            _received.letter["sandbox_kind"] = _received.check_sandbox()
        channel.send({"kind": _received.wish.kind})
    except (UserError, SandboxUnavailable) as error:
        channel.send({"error": str(error)})


def received() -> Arrival | None:
    """What this process was given."""
    return _received


def packed(settings: Settings) -> dict[str, Any]:
    """*settings* as JSON values, for :func:`unpacked`. Secrets of the models' server stay here."""
    values: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, Path):
            value = {"path": str(value)}
        elif isinstance(value, (tuple, frozenset)):
            value = {"several": sorted(value) if isinstance(value, frozenset) else list(value)}
        elif isinstance(value, dict):
            value = {"object": value}
        values[field.name] = value
    url = settings.base_url
    return values | {"api_key": None, "base_url": None if url is None else redacted(url)}


def unpacked(values: Mapping[str, Any]) -> Settings:
    """The settings that :func:`packed` packed."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            ((kind, value),) = value.items()
            if kind == "path":
                value = Path(value)
            elif kind == "several":
                value = frozenset(value) if name == "given" else tuple(value)
        found[name] = value
    return Settings(**found)
