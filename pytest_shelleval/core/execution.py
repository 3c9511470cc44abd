"""Phase 2: run one task's setup, command and success condition in a sandbox, and judge.

``separate`` steps (what SoS does): setup runs as one fresh bash, the command in the sandbox's
session, the condition as another fresh bash; all start in the sandbox's start directory. ``shared``
steps: setup and command share the session, and the condition starts where the session ended.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable, ShellevalError
from pytest_shelleval.core.observation import mark, observe, tampered
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import ExecResult, Restorable, Sandbox
from pytest_shelleval.core.snapshots import WORTH_SECONDS, Kept, Snapshots, key_of, repeatable
from pytest_shelleval.core.tasks import Steps, Task

Score = Callable[[Result, Sandbox], "float | None"]
"""Scores a result, 0 to 1, while its sandbox is there; None keeps the condition's verdict."""


@dataclass(frozen=True, slots=True)
class ExecutionPolicy:
    """How tasks are run; times are wall seconds."""

    steps: Steps = "separate"
    strict_setup: bool = False
    """Whether the failure of any setup command is an error, not only that of the last."""
    command_timeout: float = 60.0
    """For the command and for the condition."""
    setup_timeout: float = 300.0
    attempts: int = 3
    """Sandboxes tried until an infrastructure fault becomes an error."""


class SetupFailed(ShellevalError):  # noqa: N818 - what happened, as reports say it
    """The task's own setup failed: an error of the dataset or the sandbox, never a verdict."""


class SandboxSource(Protocol):
    """The one method of a provider that execution needs."""

    def acquire(self) -> Sandbox:
        """A fresh sandbox."""
        ...


def setup_script(commands: Sequence[str], *, strict: bool) -> str:
    """One bash script that runs *commands* in order, each whole.

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


class Execution:
    """One command's way through a sandbox: :meth:`prepare`, :meth:`run`, :meth:`release`.

    :attr:`result` is there from the start and is filled as things happen, so that there is
    something to report wherever it ends.
    """

    def __init__(
        self,
        task: Task,
        command: Command,
        source: SandboxSource,
        policy: ExecutionPolicy,
        *,
        worker: str = "main",
    ) -> None:
        self.task = task
        self.policy = policy
        self.steps: Steps = task.steps or policy.steps
        self.result = Result.of(task, command, worker)
        self.result.steps = self.steps
        self._source = source
        self._sandbox: Sandbox | None = None
        self._started = 0.0

    def prepare(self) -> Sandbox:
        """A sandbox in which the setup has run.

        Raises SetupFailed, or SandboxError when every attempt met an infrastructure fault; the
        result then has status ``error``.
        """
        while True:
            try:
                return self._prepare_once()
            except SetupFailed as error:
                self.result.fail_as_error("setup", str(error))
                raise
            except SandboxError as error:
                self._give_up_or_retry(error)

    def run(self, sandbox: Sandbox | None = None, *, score: Score | None = None) -> Result:
        """Run command and condition and set the verdict, or let *score* set it.

        In the sandbox that :meth:`prepare` made, a fault of it leads to a fresh one; in a *sandbox*
        of the caller's it is an error at once. Raises like :meth:`prepare`.
        """
        own = sandbox is None or sandbox is self._sandbox
        while True:
            try:
                used = sandbox or self._sandbox or self.prepare()
                self._run_once(used)
                if score is not None:
                    self.result.apply_score(score(self.result, used))
            except SandboxError as error:
                if not own:
                    self.result.fail_as_error("sandbox", str(error))
                    raise
                self._give_up_or_retry(error)
                sandbox = None
            else:
                return self.result

    def release(self) -> None:
        """Close the sandbox, if there is one. Never raises."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.close()

    def _give_up_or_retry(self, error: SandboxError) -> None:
        self.release()
        if isinstance(error, SandboxUnavailable) or self.result.attempt >= self.policy.attempts:
            self.result.fail_as_error("sandbox", str(error))
            raise error
        self.result.restart()

    def _prepare_once(self) -> Sandbox:
        result = self.result
        result.start_time = _now()
        self._started = time.monotonic()
        sandbox = self._sandbox = self._source.acquire()
        result.sandbox = dict(sandbox.info)
        result.durations["sandbox"] = round(time.monotonic() - self._started, 6)
        if self.task.setup_commands:
            started = time.monotonic()
            try:
                if self.steps == "shared":
                    self._setup_in_session(sandbox)
                else:
                    self._setup_apart(sandbox)
            finally:
                result.durations["setup"] = round(time.monotonic() - started, 6)
                result.end_time = _now()
            mark(sandbox)
        return sandbox

    def _setup_apart(self, sandbox: Sandbox) -> None:
        script = setup_script(self.task.setup_commands, strict=self.policy.strict_setup)
        done = self._run_or_restore(sandbox, script)
        self.result.setup_output = done.output
        self._judge_setup(done, "setup")

    def _run_or_restore(self, sandbox: Sandbox, script: str) -> ExecResult:
        snapshots: Snapshots | None = getattr(self._source, "snapshots", None)
        timeout = self.policy.setup_timeout
        command = self.result.command.generated_command or ""
        if (
            snapshots is None
            or not isinstance(sandbox, Restorable)
            or not repeatable((script, command, self.task.success_condition))
        ):
            return sandbox.exec(script, timeout=timeout)
        with snapshots.entry(key_of(script, sandbox.info)) as entry:
            if entry.kept is not None:
                try:
                    sandbox.restore(entry.kept.data)
                except SandboxError:
                    entry.keep(None)  # the next attempt runs it
                    raise
                self.result.sandbox["snapshot"] = True
                return ExecResult(entry.kept.output, 0, truncated=entry.kept.truncated)
            done = sandbox.exec(script, timeout=timeout)
            if entry.wanted:
                good = done.exit_code == 0 and done.limit is None and not done.timed_out
                data = sandbox.snapshot() if good and done.duration >= WORTH_SECONDS else None
                kept = None if data is None else Kept(done.output, done.truncated, data)
                entry.keep(kept)
            return done

    def _setup_in_session(self, sandbox: Sandbox) -> None:
        deadline = time.monotonic() + self.policy.setup_timeout
        outputs: list[str] = []
        last = len(self.task.setup_commands)
        for number, command in enumerate(self.task.setup_commands, 1):
            left = max(deadline - time.monotonic(), 0.001)
            done = self._in_session(sandbox, command, left)
            outputs.append(done.output)
            self.result.setup_output = "".join(outputs)
            which = f"setup command {number} of {last}"
            if done.exited and not done.timed_out:
                raise SetupFailed(f"{which} ended the shell with exit code {done.exit_code}")
            if number == last or self.policy.strict_setup or done.timed_out:
                self._judge_setup(done, which)

    def _judge_setup(self, done: ExecResult, which: str) -> None:
        if done.timed_out:
            raise SetupFailed(f"{which} took longer than {self.policy.setup_timeout:g} s")
        if done.limit is not None:
            raise SetupFailed(f"{which} went over the sandbox's limit on {done.limit}")
        if done.exit_code != 0:
            raise SetupFailed(f"{which} failed with exit code {done.exit_code}")

    def _in_session(self, sandbox: Sandbox, text: str, timeout: float) -> ExecResult:
        since = time.monotonic() - self._started
        done = sandbox.exec_session(text, timeout=timeout)
        step: dict[str, Any] = {
            "index": len(self.result.trajectory),
            "command": text,
            "timestamp": round(since, 6),
            "result": {"output": done.output, "exit_code": done.exit_code},
        }
        self.result.trajectory.append(step)
        return done

    def _run_once(self, sandbox: Sandbox) -> None:
        result, policy = self.result, self.policy
        text = result.command.generated_command
        if text is None:
            raise ValueError(f"{self.task.task_id} has no command to run")
        done = self._in_session(sandbox, text, self.task.timeout or policy.command_timeout)
        result.command_output = done.output
        result.command_exit_code = done.exit_code
        result.exited = done.exited
        result.timed_out = done.timed_out
        result.limit = done.limit
        result.output_truncated = done.truncated
        result.durations["command"] = round(done.duration, 6)
        result.effects = observe(sandbox)
        # after a time-out or a hit limit the verdict is known, but the condition still informs
        where = sandbox.session_directory() if self.steps == "shared" else None
        test = sandbox.exec(self.task.success_condition, timeout=policy.command_timeout, cwd=where)
        result.test_output = test.output
        result.test_exit_code = test.exit_code
        result.test_timed_out = test.timed_out
        result.durations["test"] = round(test.duration, 6)
        effects = [result.effects]
        if result.effects and result.effects["processes"]:
            # what runs on could have waited for the condition to start
            effects.append(observe(sandbox))
        result.tampered = tampered(self.task.success_condition, *effects)
        result.end_time = _now()
        result.judge()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
