"""Commands that are run several times: verdicts that change are told from those that do not."""

from __future__ import annotations

import itertools

import pytest

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.execution import Execution, ExecutionPolicy, SetupFailed
from pytest_shelleval.core.repetition import FlakyVerdict, repeat
from pytest_shelleval.core.sandbox import ExecResult
from tests.core.fakes import Scripted, command, done, task


def repeated(source: Scripted, times: int, *setup: str) -> Execution:
    execution = Execution(task(*setup), command(), source, ExecutionPolicy(executions=times))
    execution.run()
    return execution


@pytest.mark.parametrize("code", [0, 1])
def test_a_verdict_that_stays(code: int) -> None:
    source = Scripted(lambda text: done(code if text == "CHECK" else 0))
    execution = repeated(source, 3, "one")
    result = repeat(execution)
    assert result.executions == [result.status] * 3 == ["failed" if code else "passed"] * 3
    assert (source.acquired, source.open) == (3, 0)
    assert source.texts.count("COMMAND") == 3
    assert result is execution.result


def test_a_verdict_that_changes_is_an_error_with_its_count() -> None:
    codes = itertools.cycle([0, 1, 0])
    source = Scripted(lambda text: done(next(codes) if text == "CHECK" else 0))
    execution = repeated(source, 3)
    with pytest.raises(FlakyVerdict, match="2 of 3 executions of the same command passed"):
        repeat(execution)
    result = execution.result
    assert (result.status, result.error_kind) == ("error", "flaky")
    assert result.executions == ["passed", "failed", "passed"]
    assert not result.overall_success
    assert source.open == 0


def test_one_sandbox_at_a_time() -> None:
    most = 0

    def answer(text: str) -> ExecResult:
        nonlocal most
        most = max(most, source.open)
        return done()

    source = Scripted(answer)
    repeat(repeated(source, 4))
    assert most == 1


def test_faults_on_the_way_are_errors() -> None:
    codes = itertools.chain([0], itertools.repeat(9))
    source = Scripted(lambda text: done(next(codes) if "one" in text else 0))
    execution = repeated(source, 2, "one")
    with pytest.raises(SetupFailed):
        repeat(execution)
    assert (execution.result.status, execution.result.error_kind) == ("error", "setup")

    source = Scripted(lambda text: done())
    execution = repeated(source, 2)
    source.broken = 100
    with pytest.raises(SandboxError):
        repeat(execution)
    assert (execution.result.status, execution.result.error_kind) == ("error", "sandbox")
    assert source.open == 0
