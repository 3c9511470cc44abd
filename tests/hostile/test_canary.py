"""Commands that break the sandbox under their own judge: the model's failure, and no error."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.reasons import sentence_of
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import ExecResult
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import Limits

LIMITS = Limits(memory=300 << 20, disk=32 << 20, processes=64)


class Blind:
    """A sandbox that does not say what commands did, as those of other kinds."""

    def __init__(self, sandbox: Any) -> None:
        self._sandbox = sandbox
        self.id, self.info = sandbox.id, sandbox.info
        self.exec, self.exec_session = sandbox.exec, sandbox.exec_session
        self.session_directory, self.close = sandbox.session_directory, sandbox.close


class Source:
    """The provider, and whether its sandboxes say what commands did."""

    def __init__(self, provider: Any, *, blind: bool) -> None:
        self._provider, self._blind = provider, blind

    def acquire(self) -> Any:
        sandbox = self._provider.acquire()
        return Blind(sandbox) if self._blind else sandbox


def run(source: Any, text: str, condition: str = "test -e never", setup: str = "") -> Result:
    row = {"task": "t", "setup_commands": [setup] if setup else [], "success_condition": condition}
    task = Task(task_id="t-1", **row)  # type: ignore[arg-type]
    written = Command(task_id="t-1", generated_command=text, timestamp="", **row)  # type: ignore[arg-type]
    execution = Execution(task, written, source, ExecutionPolicy(command_timeout=3))
    try:
        return execution.run()
    except SandboxError:
        return execution.result
    finally:
        execution.release()


@pytest.mark.parametrize("blind", [False, True], ids=["seen", "blind"])
@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("rm -rf /usr/bin", True),
        ("rm -rf /bin /usr/bin /lib*; exit 137", True),
        ("rm -f /bin/bash; exit 127", True),
        ("mv /lib64 /elsewhere; exit 137", True),
        ("cp /bin/false /tmp/f; mv /tmp/f /bin/rm; exit 126", True),
        ("rm -rf ~ /tmp; exit 127", False),
        ("chmod 000 / /tmp .; exit 127", False),
        ("kill -9 -1; kill -9 $$", False),
        ("head -c 100M /dev/zero > f; exit 130", False),
        ("nosuch", False),
    ],
)
def test_the_failure_stays_the_commands(
    provider: Any, text: str, broken: bool, blind: bool
) -> None:
    result = run(Source(provider, blind=blind), text)
    assert (result.status, result.error_kind) == ("failed", None)
    assert bool(result.broke) == broken, result.sandbox
    assert result.attempt == (2 if broken and blind else 1), result.faults
    if broken and not result.timed_out:
        assert sentence_of(result) == f"the command broke its sandbox: {result.broke}"


def test_exhausted_processes_stay_the_commands(provider: Any) -> None:
    result = run(Source(provider, blind=True), "for i in $(seq 62); do sleep 99 & done; exit 254")
    assert (result.status, result.error_kind) == ("failed", None), result.error


def test_a_setup_that_fills_the_disk(provider: Any) -> None:
    result = run(Source(provider, blind=True), "nosuch", setup="head -c 99M /dev/zero > f; true")
    assert (result.status, result.error_kind, result.broke) == ("failed", None, "")


class Doomed:
    """A sandbox whose own files are lost when its first command has ended."""

    def __init__(self, sandbox: Any) -> None:
        self._sandbox = sandbox
        self.id, self.info, self.exec = sandbox.id, sandbox.info, sandbox.exec
        self.session_directory, self.close = sandbox.session_directory, sandbox.close

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        done: ExecResult = self._sandbox.exec_session(text, timeout=timeout)
        self._sandbox.exec("rm -rf /usr/lib* /lib64", timeout=30)
        return done


def test_a_sandbox_that_breaks_by_itself_costs_the_model_nothing(provider: Any) -> None:
    class Once:
        given = 0

        def acquire(self) -> Any:
            self.given += 1
            sandbox = provider.acquire()
            return Doomed(sandbox) if self.given == 1 else sandbox

    result = run(Once(), "touch x", "test -e x")
    assert (result.status, result.attempt) == ("passed", 2)
    assert "known-good" in result.faults[0]


def test_where_a_program_is_that_was_not_found(provider: Any) -> None:
    result = run(Source(provider, blind=False), "PATH=/nowhere; grep x y; no-such-program")
    assert result.missing == {"grep": "/usr/bin/grep", "no-such-program": None}
    assert result.sandbox["canary"] == "ok"
    assert result.effects is not None
    assert result.effects["created"] == []
