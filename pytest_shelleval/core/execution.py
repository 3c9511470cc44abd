"""Phase 2: run one task's setup, command and success condition in a sandbox, and judge the result.

After an infrastructure fault the task is retried in a fresh sandbox; a fault that persists becomes
an error and never counts as the command's failure. A task that does not pass on a machine too busy
to give its steps their share of processor time is retried once, in a quiet moment, before it counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from pytest_shelleval.core.attempt import (
    MISSING_CAPABILITY,
    Attempt,
    ExecutionPolicy,
    SetupFailed,
    setup_script,
)
from pytest_shelleval.core.clock import now
from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.observation import mark
from pytest_shelleval.core.quiet import Turn, Turns, wait_for_a_processor
from pytest_shelleval.core.reasons import sentence_of
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import Sandbox
from pytest_shelleval.core.snapshots import Snapshots
from pytest_shelleval.core.tasks import Task

_log = logging.getLogger(__name__)

__all__ = [
    "Execution",
    "ExecutionPolicy",
    "SandboxSource",
    "Score",
    "SetupFailed",
    "setup_script",
]

Score = Callable[[Result, Sandbox], "float | None"]
"""Scores a result, 0 to 1, while its sandbox still exists; None keeps the condition's verdict."""


class SandboxSource(Protocol):
    """The one method of a provider that execution needs."""

    def acquire(self) -> Sandbox:
        """A fresh sandbox."""
        ...


class Cancellation:
    """Ends an execution from another thread: kills what it runs; nothing is retried."""

    def __init__(self) -> None:
        self.cancelled = False
        self.sandbox: Sandbox | None = None
        """The sandbox in use."""

    def cancel(self) -> None:
        """End it; may be repeated."""
        self.cancelled = True
        sandbox = self.sandbox
        if sandbox is not None:
            sandbox.close()


class Execution:
    """Runs one command in a sandbox: :meth:`prepare`, :meth:`run`, :meth:`release`.

    :attr:`result` exists from the start and is filled step by step, so that there is something to
    report wherever the execution ends.
    """

    def __init__(
        self,
        task: Task,
        command: Command,
        source: SandboxSource,
        policy: ExecutionPolicy,
        *,
        worker: str = "main",
        use_snapshots: bool = True,
        cancellation: Cancellation | None = None,
    ) -> None:
        """*use_snapshots*: restore the setup from a snapshot if the source has one."""
        self.task = task
        self.policy = policy
        self.result = Result.of(task, command, worker)
        self.result.steps = task.steps or policy.steps
        self._source = source
        self._use_snapshots = use_snapshots
        self._sandbox: Sandbox | None = None
        self._turn: Turn | None = None
        self._cancellation = cancellation or Cancellation()
        self.attempt: Attempt | None = None
        """The last attempt, once :meth:`prepare` was called."""

    def prepare(self) -> Sandbox:
        """A sandbox in which the setup has run.

        Raises SetupFailed, or SandboxError when every attempt met an infrastructure fault; the
        result then has status ``error``.
        """
        while True:
            try:
                return self._prepare_once()
            except SetupFailed as error:
                if self._was_starved(str(error)):
                    continue
                self.result.fail_as_error("setup", str(error))
                raise
            except SandboxError as error:
                self._give_up_or_retry(error)

    def run(self, sandbox: Sandbox | None = None, *, score: Score | None = None) -> Result:
        """Run command and condition and set the verdict, or let *score* set it.

        If the sandbox of :meth:`prepare` fails, a fresh one is tried; if the caller's *sandbox*
        fails, that is an error at once. Raises like :meth:`prepare`.
        """
        own = sandbox is None or sandbox is self._sandbox
        while True:
            try:
                self._run_once(sandbox or self._sandbox or self.prepare(), score)
            except SandboxError as error:
                if not own:
                    self.result.fail_as_error("sandbox", str(error))
                    raise
                self._give_up_or_retry(error)
                sandbox = None
            else:
                failed = own and self.result.status == "failed"
                if failed and self._was_starved(sentence_of(self.result)):
                    sandbox = None
                    continue
                self._end_turn()
                return self.result

    def again(self) -> Execution:
        """A new execution of the same task and command, which runs the setup without snapshots."""
        return Execution(
            self.task,
            self.result.command,
            self._source,
            self.policy,
            worker=self.result.worker,
            use_snapshots=False,
            cancellation=self._cancellation,
        )

    def release(self) -> None:
        """Close the sandbox, if there is one. Never raises."""
        self._end_turn()
        sandbox, self._sandbox = self._sandbox, None
        self._cancellation.sandbox = None
        if sandbox is not None:
            sandbox.close()

    def _take_turn(self) -> None:
        if self._turn is not None:
            return
        alone = bool(self.result.starved)
        turns: Turns | None = getattr(self._source, "turns", None)
        self._turn = Turn([]) if turns is None else turns.take(alone=alone)
        if alone:
            wait_for_a_processor()

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.end()

    def _was_starved(self, reason: str) -> bool:
        """Whether the attempt that failed for *reason* lacked processor time; prepares the retry."""
        starved = self.attempt.starved if self.attempt else {}
        if not starved or self.result.starved:
            return False
        self.release()
        parts = ", ".join(f"{step} {part:.0%}" for step, part in starved.items())
        fault = f"{reason}, on a machine too busy to give it its share of processor time ({parts})"
        _log.warning("%s: attempt %d: %s", self.result.name, self.result.attempt, fault)
        self.result.restart(fault)
        self.result.starved = starved
        return True

    def _give_up_or_retry(self, error: SandboxError) -> None:
        self.release()
        if self._cancellation.cancelled:
            self.result.fail_as_error("interrupted", "the run was ended")
            raise error
        _log.warning("%s: attempt %d: %s", self.result.name, self.result.attempt, error)
        if isinstance(error, SandboxUnavailable) or self.result.attempt >= self.policy.attempts:
            self.result.fail_as_error("sandbox", str(error))
            raise error
        self.result.restart(str(error))

    def _prepare_once(self) -> Sandbox:
        result = self.result
        self._take_turn()
        result.start_time = now()
        started = time.monotonic()
        sandbox = self._sandbox = self._cancellation.sandbox = self._source.acquire()
        if self._cancellation.cancelled:
            raise SandboxError("the run was ended")
        result.sandbox = dict(sandbox.info)
        result.durations["sandbox"] = round(time.monotonic() - started, 6)
        _log.debug(
            "%s: sandbox %s after %.3f s", result.name, sandbox.id, result.durations["sandbox"]
        )
        attempt = self.attempt = Attempt(self.task, self.policy, result, sandbox, started)
        attempt.health.begin()
        if self.task.setup_commands:
            snapshots: Snapshots | None = None
            if self._use_snapshots and not attempt.health.close:  # after a fault nothing is reused
                snapshots = getattr(self._source, "snapshots", None)
            attempt.set_up(snapshots)
        attempt.health.set_up()
        if self.task.setup_commands or attempt.health.close:
            mark(sandbox)
        return sandbox

    def _run_once(self, sandbox: Sandbox, score: Score | None) -> None:
        self._take_turn()
        attempt = self.attempt
        if attempt is None or attempt.sandbox is not sandbox:  # the caller's sandbox
            attempt = Attempt(self.task, self.policy, self.result, sandbox, time.monotonic())
        done = attempt.run_command()
        if attempt.health.broken_by_command():
            self.result.judge()
            return
        test = attempt.check()
        self.result.judge()
        attempt.health.end(done, test)
        if score is not None:
            self.result.apply_score(score(self.result, sandbox))
        if self.result.status == "failed" and attempt.missing_capability:
            raise SandboxUnavailable(MISSING_CAPABILITY[attempt.missing_capability])
        _log.info("%s: %s in %s", self.result.name, self.result.status, sandbox.id)
