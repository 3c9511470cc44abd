"""Verdicts of a run that its processes share: the same execution is done by one of them, once."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import locked, replace_file
from pytest_shelleval.core.ledger import FINISHED
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.tasks import Task


class Claim:
    """The right to execute what a key stands for, until :meth:`release`."""

    def __init__(self, path: Path, key: str, execution_key: str) -> None:
        """*execution_key* is that of the results to share; *key* may be narrower."""
        self.known: Result | None = None
        """The result, where it has been executed already; it tells by whom in ``reused_from``."""
        self._path = path / key
        self._execution_key = execution_key
        self._lock = contextlib.ExitStack()
        self._read()
        if self.known is None:
            self._lock.enter_context(locked(path / f"{key}.lock"))
            self._read()  # whoever had the lock may have left it

    def keep(self, result: Result, nodeid: str) -> None:
        """Leave a *result* with a verdict, of the item *nodeid*, to the others."""
        same = result.execution_key == self._execution_key
        if same and result.status in FINISHED and result.reused_from is None:
            record = replace(result, reused_from=nodeid).to_record()
            with contextlib.suppress(UserError):  # a full disk: then each executes it
                replace_file(self._path, json.dumps(record))

    def release(self) -> None:
        """Let others execute it, if no result was kept; may be repeated."""
        self._lock.close()

    def _read(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.known = Result.from_record(json.loads(self._path.read_bytes()))


def passed_on(result: Result, task: Task, command: Command) -> Result:
    """*result*, of another sample or model, as that of *command* for *task*.

    No time was spent on it: ``durations`` is empty, so that sums are of what was executed.
    """
    return replace(
        result,
        command=replace(
            command,
            setup_commands=list(task.setup_commands),
            success_condition=task.success_condition,
        ),
        tags=list(task.tags),
        difficulty_level=task.difficulty_level,
        durations={},
    )
