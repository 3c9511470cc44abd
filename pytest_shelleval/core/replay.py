"""Reuse of known verdicts: the key that equal executions share, and results to replay."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.execution import ExecutionPolicy
from pytest_shelleval.core.files import replace_file
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.tasks import Task

_DIGITS = 32
# Fields of the policy that never decide a verdict, or that a task may override.
_APART = frozenset({"attempts", "steps"})


class ExecutionKeys:
    """Makes a result's ``execution_key``: a hash of everything that decides a verdict.

    That is the kind of sandbox with its image or files and its limits, which steps share a shell,
    setup, command and condition, and their timeouts. The content of the image and the code of a
    conftest.py are not part of it.
    """

    def __init__(self, policy: ExecutionPolicy, sandbox: Mapping[str, Any]) -> None:
        rules = {name: it for name, it in asdict(policy).items() if name not in _APART}
        self._policy = policy
        self._common = hashlib.sha256(_canonical([rules, sandbox]))

    def of(self, task: Task, command: Command | None) -> str:
        """The key, 32 hex digits, of *command* (or of none) with *task*'s setup and condition."""
        text = None if command is None else command.generated_command
        content = [
            text,
            # without a command: whether the model answered without one
            text is None and command is not None and command.answered,
            task.setup_commands,
            task.success_condition,
            task.steps or self._policy.steps,
            task.timeout or self._policy.command_timeout,
        ]
        digest = self._common.copy()
        digest.update(_canonical(content))
        return digest.hexdigest()[:_DIGITS]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


@dataclass(frozen=True, slots=True)
class Replay:
    """Results of earlier runs that replace an execution: where each of them is recorded."""

    results: Path
    """results.jsonl; lines are only added to it while this is in use."""
    offsets: Mapping[str, int]
    """The byte offset of each item's line, by the item's node id."""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """Node ids of items whose verdict others may reuse, by the key that they share."""

    def result(self, nodeid: str) -> Result | None:
        """The recorded result of the item *nodeid*; None if the item has to be run.

        Raises UserError when the file can't be read.
        """
        offset = self.offsets.get(nodeid)
        if offset is None:
            return None
        try:
            with self.results.open("rb") as file:
                file.seek(offset)
                return Result.from_record(json.loads(file.readline()))
        except (OSError, ValueError) as error:
            raise UserError(f"can't read {self.results}: {error}") from error

    def save(self, path: Path) -> None:
        """Write it to *path* for other processes. Raises UserError when it can't be written."""
        replace_file(path, json.dumps([str(self.results), dict(self.offsets), dict(self.verdicts)]))

    @classmethod
    def load(cls, path: Path) -> Replay:
        """What :meth:`save` wrote to *path*; nothing to replay if the file does not exist."""
        try:
            results, offsets, verdicts = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls(path, {})
        except (OSError, ValueError) as error:
            raise UserError(f"can't read {path}: {error}") from error
        return cls(Path(results), offsets, verdicts)


def passed_on(result: Result, task: Task, command: Command) -> Result:
    """The *result* of another sample or model, reused for *command* of *task*.

    ``durations`` is empty, so that sums count only what was executed.
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
