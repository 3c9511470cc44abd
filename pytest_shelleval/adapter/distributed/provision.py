"""The near side: what the controller gives to a worker on another machine.

A machine without the controller's files needs the settled options, the datasets' rows, the commands
of phase 1 and, where results are replayed, those. Options go before the worker's pytest starts; files
when it asks for them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval import __version__
from pytest_shelleval.adapter.distributed.specs import machine_of
from pytest_shelleval.adapter.shown import usage_error
from pytest_shelleval.core.errors import UserError

if TYPE_CHECKING:
    from execnet import Channel, XSpec
    from xdist.workermanage import WorkerController

    from pytest_shelleval.adapter.controller import Controller

_PIECE = 1 << 18


# What is run over there, where this package may be missing.
_ARRIVE = """
import sys
found, wanted = "", channel.receive()
try:
    import pytest_shelleval
    found = pytest_shelleval.__version__
    if found == wanted:
        from pytest_shelleval.adapter.distributed.arrival import begin
except ImportError:
    found = found and found + " with other files"
channel.send((found, sys.executable))
if found == wanted:
    begin(channel)
"""


class Provision:
    """Equips workers on other machines."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._run = controller.run

    def equip(self, node: WorkerController, placed: Counter[str]) -> None:
        """Give *node* what it needs; *placed* counts the workers of each machine.

        Raises pytest.UsageError where that machine can't take part.
        """
        gateway, spec = node.gateway, node.gateway.spec
        channel = gateway.remote_exec(_ARRIVE)
        channel.send(__version__)
        found, executable = channel.receive()
        if found != __version__:
            there = f"pytest-shelleval {found}" if found else "no pytest-shelleval"
            raise pytest.UsageError(
                f"{machine_of(spec)}: {executable} has {there}, and this machine has {__version__}; "
                f"install it there: pip install pytest-shelleval=={__version__}"
            )
        wire = gateway.newchannel()
        channel.send((json.dumps(self._letter(node, spec, placed)), wire))
        answer = channel.receive()
        channel.waitclose()
        if "error" in answer:
            raise usage_error(f"{machine_of(spec)}: {answer['error']}")
        self._run.sandbox_kind = answer["kind"]
        wire.setcallback(lambda name: self._send(wire, name))

    def _letter(self, node: WorkerController, spec: XSpec, placed: Counter[str]) -> dict[str, Any]:
        from pytest_shelleval.adapter.distributed.arrival import packed
        from pytest_shelleval.adapter.reuse import own_names

        run, workers = self._run, placed[machine_of(spec)]
        sources = [(source.name, source.nodeid) for source in run.sources]
        permits = run.settings.sos_permits
        if permits is not None:
            permits = max(1, permits * workers // placed.total())
        return {
            "run": node.workerinput["testrunuid"],
            "project": run.rootdir.name,
            "settings": packed(run.settings),
            "sources": [] if run.without_dataset else sources,
            "commands_source": sources[0] if run.without_dataset else None,
            "sandbox_kind": run.sandbox_kind,
            "sos_permits": permits,
            "workers": workers,
            "check": self._controller.tries_sandboxes,
            "own": sorted(own_names(self._controller.config)),
        }

    def _send(self, wire: Channel, name: str) -> None:
        """Answer a worker that asks for the file *name*."""
        try:
            with self._file(name).open("rb") as file:
                while piece := file.read(_PIECE):
                    wire.send(piece)
            wire.send(None)
        except (UserError, OSError) as error:
            if not wire.isclosed():
                wire.send(f"{name}: {error}")

    def _file(self, name: str) -> Path:
        run, output = self._run, self._run.settings.output_dir
        if name == "commands.jsonl":
            return run.settings.commands_file
        if name == "results.jsonl":
            return output / name
        folder = self._controller.state_directory()
        if name == "replay.json":
            return folder / name
        number = int(name.removeprefix("rows-").removesuffix(".jsonl"))
        return run.copy_of(number, folder)
