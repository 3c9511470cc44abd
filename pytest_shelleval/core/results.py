"""Result: the outcome of one command, a line of results.jsonl."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.redaction import redacted
from pytest_shelleval.core.tasks import Task

Status = Literal["passed", "failed", "error"]
_KEPT_ON_RESTART = frozenset(
    {
        "command",
        "attempt",
        "faults",
        "starved",
        "worker",
        "steps",
        "tags",
        "difficulty_level",
        "execution_key",
    }
)
ErrorKind = Literal["inference", "setup", "sandbox", "crashed", "interrupted", "flaky"]


def empty_command(task: Task, model: str | None, sample: int) -> Command:
    """A placeholder for the command of a task that has none."""
    return Command(
        task_id=task.task_id,
        task=task.task,
        setup_commands=list(task.setup_commands),
        success_condition=task.success_condition,
        generated_command=None,
        timestamp="",
        model=model,
        sample=sample,
    )


def broken_by(sandbox: Mapping[str, Any]) -> str:
    """What the command broke, by a result's *sandbox* field; empty if nothing essential."""
    canary = str(sandbox.get("canary") or "")
    return canary.removeprefix("failed: ") if canary.startswith("failed: ") else ""


@dataclass(slots=True, kw_only=True)
class Result:
    """One line of results.jsonl: the command's fields and its outcome.

    ``overall_success`` = ``command_success`` and ``test_passed``. ``status`` distinguishes a
    failure, which is the model's fault, from an error, which is not.
    """

    command: Command
    command_output: str | None = None
    """stdout and stderr of the command, merged."""
    command_exit_code: int | None = None
    """None when the command timed out or never ran."""
    command_success: bool = False
    """The command ended with exit code 0 and within its limits."""
    test_exit_code: int | None = None
    test_passed: bool = False
    overall_success: bool = False
    trajectory: list[dict[str, Any]] = field(default_factory=list)
    """What the session ran: ``{index, command, timestamp, result: {output, exit_code}}``;
    ``timestamp`` in seconds since the sandbox was requested."""
    start_time: str | None = None
    """ISO 8601, UTC."""
    end_time: str | None = None
    exited: bool = False
    """The command ended the session's shell."""
    status: Status = "error"
    error: str | None = None
    error_kind: ErrorKind | None = None
    score: float | None = None
    """0 to 1, if the user's code scores the task in place of its condition."""
    setup_output: str | None = None
    test_output: str | None = None
    timed_out: bool = False
    test_timed_out: bool = False
    limit: str | None = None
    """The limit that the command hit: ``memory``, ``disk``, ``processes``."""
    output_truncated: bool = False
    steps: str | None = None
    sandbox: dict[str, Any] = field(default_factory=dict)
    """``{kind, image or rootfs, id}``; ``canary``, if a known-good command was run after a
    suspicious end: ``ok``, or ``failed: WHY`` if the command has broken the sandbox."""
    effects: dict[str, Any] | None = None
    """What the command did, see :class:`~pytest_shelleval.core.sandbox.Observant`; None if the
    sandbox does not report it."""
    tampered: list[str] = field(default_factory=list)
    """Programs that the condition may use and that the command replaced or removed: the condition's
    verdict can't be trusted, and the task has failed."""
    missing: dict[str, str | None] = field(default_factory=dict)
    """Programs that the output says were not found, and where the sandbox has them; None: nowhere."""
    durations: dict[str, float] = field(default_factory=dict)
    """Seconds: ``sandbox``, ``setup``, ``command``, ``test``."""
    tags: list[str] = field(default_factory=list)
    difficulty_level: str | int | float | None = None
    attempt: int = 1
    """Sandboxes used; more than 1 after infrastructure faults."""
    faults: list[str] = field(default_factory=list)
    """Why earlier attempts were given up."""
    starved: dict[str, float] = field(default_factory=dict)
    """Set if an attempt did not pass and was repeated because the machine was too busy: the steps
    that got less than half of the processor time due to them, and the fraction that they got."""
    executions: list[str] | None = None
    """The status of each execution, if the command was run several times."""
    worker: str = "main"
    execution_key: str | None = None
    """Results with the same key have the same verdict; see :mod:`pytest_shelleval.core.replay`."""
    reused_from: str | None = None
    """Node id of the item with the same command that was executed in place of this one."""

    @classmethod
    def of(cls, task: Task, command: Command, worker: str = "main") -> Result:
        """An empty result, before anything has run."""
        return cls(
            command=command,
            worker=worker,
            tags=list(task.tags),
            difficulty_level=task.difficulty_level,
        )

    def judge(self) -> None:
        """Set the verdict from the outcome of the steps."""
        self.command_success = self.command_exit_code == 0 and self.limit is None
        self.test_passed = self.test_exit_code == 0 and not self.tampered
        self.overall_success = self.command_success and self.test_passed
        self.status = "passed" if self.overall_success else "failed"

    def apply_score(self, score: float | None) -> None:
        """Let *score*, 0 to 1, decide in place of the condition; None changes nothing.

        Raises ValueError when it is not from 0 to 1.
        """
        if score is None:
            return
        if not 0 <= score <= 1:
            raise ValueError(f"a score from 0 to 1 is expected, not {score!r}")
        self.score = float(score)
        self.test_passed = self.score == 1 and not self.tampered
        self.overall_success = self.command_success and self.test_passed
        self.status = "passed" if self.overall_success else "failed"

    def fail_without_command(self, reason: str) -> None:
        """End with a failure: the model's reply had no command in it."""
        self.status, self.error = "failed", reason

    @property
    def name(self) -> str:
        """Task, model and sample: the result's name in logs."""
        command = self.command
        model = "" if command.model is None else f" {command.model}"
        return f"{command.task_id}{model} sample {command.sample}"

    def fail_as_error(self, kind: ErrorKind, error: str) -> None:
        """End with an error: something that was not the model's fault."""
        self.status, self.error_kind, self.error = "error", kind, redacted(error)
        self.command_success = self.test_passed = self.overall_success = False

    def restart(self, fault: str) -> None:
        """Reset the result for a further attempt; *fault*, why this one was given up, is kept."""
        fresh = Result(command=self.command)
        for each in fields(Result):
            if each.name not in _KEPT_ON_RESTART:
                setattr(self, each.name, getattr(fresh, each.name))
        self.attempt += 1
        self.faults.append(fault)

    @property
    def broke(self) -> str:
        """What the command broke in its sandbox; empty if nothing essential."""
        return broken_by(self.sandbox)

    def to_record(self) -> dict[str, Any]:
        """The line of results.jsonl, as a JSON object."""
        record = self.command.to_record()
        for each in fields(self):
            if each.name != "command":
                record[each.name] = getattr(self, each.name)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Result:
        """The result of a line of results.jsonl; unknown fields go to ``command.extra``."""
        own = {each.name for each in fields(cls)} - {"command"}
        command = Command.from_record(
            {name: value for name, value in record.items() if name not in own - {"error"}}
        )
        values = {name: record[name] for name in own if name in record}
        return cls(command=command, **values)
