"""The steps of one task in one sandbox: setup, command, success condition.

``separate`` steps (what SoS does): setup runs as one fresh bash, the command in the sandbox's
session, the condition as another fresh bash; all start in the sandbox's start directory. ``shared``
steps: setup and command share the session, and the condition starts where the session ended.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_shelleval.core.canary import SandboxHealth
from pytest_shelleval.core.clock import now
from pytest_shelleval.core.errors import SandboxError, ShellevalError
from pytest_shelleval.core.observation import observe, tampered
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import ExecResult, Restorable, Sandbox
from pytest_shelleval.core.snapshots import WORTH_SECONDS, Kept, Snapshots, key_of, repeatable
from pytest_shelleval.core.tasks import Steps, Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExecutionPolicy:
    """How tasks are run; times are wall seconds."""

    steps: Steps = "separate"
    strict_setup: bool = False
    """Whether the failure of any setup command is an error, not only of the last one."""
    command_timeout: float = 60.0
    """For the command and for the condition."""
    setup_timeout: float = 300.0
    attempts: int = 3
    """Sandboxes to try before an infrastructure fault becomes an error."""
    executions: int = 1
    """How often each command is run; see :mod:`pytest_shelleval.core.repetition`."""


MISSING_CAPABILITY = {
    "ids": "it needs users or groups other than root, and this user's sandboxes have none: install "
    "uidmap and give the user a range in /etc/subuid and /etc/subgid, run as root, or use "
    "--shelleval-sandbox=docker (shelleval doctor says more)",
}
"""Messages for things that a container could give and this sandbox can't, by
``ExecResult.missing_capability``."""


class SetupFailed(ShellevalError):  # noqa: N818 - what happened, as reports say it
    """The task's own setup failed: an error of the dataset or the sandbox, never a verdict."""


def setup_script(commands: Sequence[str], *, strict: bool) -> str:
    """One bash script that runs *commands* in order, each by itself.

    ``eval`` of a quoted string keeps a comment, a heredoc, a syntax error or a trailing ``&`` of
    one command from swallowing the next. The script's exit code is that of the last command, or
    with *strict* of the first that fails.
    """
    lines = []
    for command in commands:
        lines.append(f"eval {shlex.quote(command)}")
        if strict:
            # not `eval ... || exit`: that would switch off a `set -e` inside
            lines.append(
                "shelleval_status=$?; [ $shelleval_status -eq 0 ] || exit $shelleval_status"
            )
    return "\n".join(lines) + "\n"


class Attempt:
    """Runs the steps of one task in one sandbox and records their outcome in *result*.

    Every step raises SandboxError when the sandbox itself fails.
    """

    def __init__(
        self, task: Task, policy: ExecutionPolicy, result: Result, sandbox: Sandbox, started: float
    ) -> None:
        """*started* is when the sandbox was requested, by ``time.monotonic``."""
        self.sandbox = sandbox
        self.health = SandboxHealth(result, sandbox)
        self.missing_capability: str | None = None
        """What a step needed and did not get, a key of :data:`MISSING_CAPABILITY`."""
        self.starved: dict[str, float] = {}
        """Steps that did not get their share of processor time, see :attr:`ExecResult.starved`."""
        self._task = task
        self._policy = policy
        self._result = result
        self._started = started
        self._shared = (task.steps or policy.steps) == "shared"

    def set_up(self, snapshots: Snapshots | None) -> None:
        """Run the setup, or restore its outcome from *snapshots*. Raises SetupFailed."""
        started = time.monotonic()
        try:
            if self._shared:
                self._set_up_in_session()
            else:
                script = setup_script(self._task.setup_commands, strict=self._policy.strict_setup)
                done = self._run_or_restore(script, snapshots)
                self._result.setup_output = done.output
                self._note_step("setup", script, done)
                self._judge_setup(done, "setup")
        finally:
            self._result.durations["setup"] = round(time.monotonic() - started, 6)
            self._result.end_time = now()

    def run_command(self) -> ExecResult:
        """Run the model's command, and ask the sandbox what it did.

        Raises ValueError if there is no command.
        """
        result = self._result
        text = result.command.generated_command
        if text is None:
            raise ValueError(f"{self._task.task_id} has no command to run")
        done = self._in_session(text, self._task.timeout or self._policy.command_timeout)
        result.command_output = done.output
        result.command_exit_code = done.exit_code
        result.exited = done.exited
        result.timed_out = done.timed_out
        result.limit = done.limit
        result.output_truncated = done.truncated
        result.durations["command"] = round(done.duration, 6)
        result.effects = observe(self.sandbox)
        result.end_time = now()
        self.missing_capability = self.missing_capability or done.missing_capability
        self._note_step("command", text, done)
        return done

    def check(self) -> ExecResult:
        """Run the success condition; useful even after a time-out or an exceeded limit."""
        result = self._result
        test = self.sandbox.exec(
            self._task.success_condition,
            timeout=self._policy.command_timeout,
            cwd=self.sandbox.session_directory() if self._shared else None,
        )
        result.test_output = test.output
        result.test_exit_code = test.exit_code
        result.test_timed_out = test.timed_out
        result.durations["test"] = round(test.duration, 6)
        effects = [result.effects]
        if result.effects and result.effects["processes"]:
            # a process still running may have waited for the condition to start
            effects.append(observe(self.sandbox))
        result.tampered = tampered(self._task.success_condition, *effects)
        result.end_time = now()
        self.missing_capability = self.missing_capability or test.missing_capability
        self._note_step("condition", self._task.success_condition, test)
        return test

    def _note_step(self, step: str, text: str, done: ExecResult) -> None:
        name, where = self._result.name, self.sandbox.id
        if done.starved is not None:
            self.starved[step] = round(done.starved, 3)
        said = "timed out" if done.timed_out else f"exit code {done.exit_code}"
        if done.limit is not None:
            said += f", over the limit on {done.limit}"
        _log.info("%s: %s in %s: %s, %.3f s", name, step, where, said, done.duration)
        _log.debug("%s: %s was %r", name, step, text)

    def _run_or_restore(self, script: str, snapshots: Snapshots | None) -> ExecResult:
        sandbox, timeout = self.sandbox, self._policy.setup_timeout
        command = self._result.command.generated_command or ""
        if (
            snapshots is None
            or not isinstance(sandbox, Restorable)
            or not repeatable((script, command, self._task.success_condition))
        ):
            return sandbox.exec(script, timeout=timeout)
        with snapshots.entry(key_of(script, sandbox.info)) as entry:
            if entry.kept is not None:
                try:
                    sandbox.restore(entry.kept.data)
                except SandboxError:
                    entry.keep(None)  # the next attempt runs it
                    raise
                self._result.sandbox["snapshot"] = True
                return ExecResult(entry.kept.output, 0, truncated=entry.kept.truncated)
            done = sandbox.exec(script, timeout=timeout)
            if entry.wanted:
                good = done.exit_code == 0 and done.limit is None and not done.timed_out
                data = sandbox.snapshot() if good and done.duration >= WORTH_SECONDS else None
                kept = None if data is None else Kept(done.output, done.truncated, data)
                entry.keep(kept)
            return done

    def _set_up_in_session(self) -> None:
        deadline = time.monotonic() + self._policy.setup_timeout
        outputs: list[str] = []
        last = len(self._task.setup_commands)
        for number, command in enumerate(self._task.setup_commands, 1):
            left = max(deadline - time.monotonic(), 0.001)
            done = self._in_session(command, left)
            outputs.append(done.output)
            self._result.setup_output = "".join(outputs)
            which = f"setup command {number} of {last}"
            self._note_step(which, command, done)
            if done.exited and not done.timed_out:
                raise SetupFailed(f"{which} ended the shell with exit code {done.exit_code}")
            if number == last or self._policy.strict_setup or done.timed_out:
                self._judge_setup(done, which)

    def _judge_setup(self, done: ExecResult, which: str) -> None:
        if done.timed_out:
            raise SetupFailed(f"{which} took longer than {self._policy.setup_timeout:g} s")
        if done.limit is not None:
            raise SetupFailed(f"{which} went over the sandbox's limit on {done.limit}")
        if done.exit_code != 0 and done.missing_capability:
            raise SetupFailed(f"{which} failed: {MISSING_CAPABILITY[done.missing_capability]}")
        if done.exit_code != 0:
            raise SetupFailed(f"{which} failed with exit code {done.exit_code}")
        self.missing_capability = self.missing_capability or done.missing_capability

    def _in_session(self, text: str, timeout: float) -> ExecResult:
        since = time.monotonic() - self._started
        done = self.sandbox.exec_session(text, timeout=timeout)
        step: dict[str, Any] = {
            "index": len(self._result.trajectory),
            "command": text,
            "timestamp": round(since, 6),
            "result": {"output": done.output, "exit_code": done.exit_code},
        }
        self._result.trajectory.append(step)
        return done
