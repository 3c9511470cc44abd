"""Whose fault was it? Faults of the infrastructure, put in on purpose, and commands that look alike."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_shelleval.core.canary import examine, suspicious
from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.reasons import sentence_of
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import ExecResult, Sandbox
from tests.core.fakes import Scripted, ScriptedSandbox, command, done, task

GONE = done(127, "/bin/bash: No such file or directory")
FAULT = "a fresh shell ended with exit code 127: /bin/bash: No such file or directory"


class Turns:
    """Answers each text by its turn: the last answer stays. What is not named ends well."""

    def __init__(self, **answers: list[ExecResult | Exception]) -> None:
        self._answers = {name.upper(): list(given) for name, given in answers.items()}

    def __call__(self, text: str) -> ExecResult:
        given = self._answers.get(text.strip())
        if given is None:
            return done()
        answer = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def run(source: Scripted, *setup: str, **policy: Any) -> Result:
    execution = Execution(task(*setup), command(), source, ExecutionPolicy(**policy))
    try:
        return execution.run()
    except SandboxError:
        return execution.result
    finally:
        execution.release()
        assert source.open == 0


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (done(0), False),
        (done(1), False),
        (done(2), False),
        (done(124), False),
        (done(125), True),
        (done(126), True),
        (done(127), True),
        (done(128), False),
        (done(130), True),
        (done(137), True),
        (done(137, limit="memory"), False),
        (done(None, timed_out=True), True),
        (done(None), True),
        (done(255), True),
    ],
)
def test_ends_that_infrastructure_could_have_caused(end: ExecResult, expected: bool) -> None:
    assert suspicious(end) == expected


def canaries(source: Scripted) -> int:
    return source.texts.count("CANARY")


@pytest.mark.parametrize(
    ("of_command", "of_check", "expected"),
    [
        (done(0), done(0), 0),
        (done(1), done(1), 0),
        (done(137, limit="memory"), done(127), 0),
        (done(127), done(1), 1),
        (done(0), done(127), 1),
        (done(None, timed_out=True), done(None, timed_out=True), 1),
    ],
)
def test_the_canary_costs_one_fresh_shell_and_only_in_doubt(
    of_command: ExecResult, of_check: ExecResult, expected: int
) -> None:
    source = Scripted(Turns(command=[of_command], check=[of_check]))
    result = run(source)
    assert canaries(source) == expected
    assert result.sandbox.get("canary") == ("ok" if expected else None)
    assert result.attempt == source.acquired == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"command": [done(137), done(0)], "canary": [GONE, done()]},
        {"check": [GONE, done(0)], "canary": [GONE, done()]},
        {
            "command": [done(None, timed_out=True), done(0)],
            "canary": [SandboxError("died"), done()],
        },
    ],
)
def test_a_fault_is_tried_again_in_a_fresh_sandbox(broken: dict[str, Any]) -> None:
    source = Scripted(Turns(**broken))
    result = run(source)
    assert (result.status, result.attempt, len(result.faults)) == ("passed", 2, 1)
    assert "canary" not in result.sandbox


def test_a_fault_that_stays_is_an_error_and_never_a_failure() -> None:
    source = Scripted(Turns(command=[done(137)], canary=[GONE]))
    result = run(source)
    assert (result.status, result.error_kind, result.attempt) == ("error", "sandbox", 3)
    assert result.error == f"a known-good command failed in a fresh sandbox: {FAULT}"
    assert (
        result.faults[0] == f"a known-good command failed in the sandbox after the task's: {FAULT}"
    )
    # in the second and third sandbox nothing of the task was run
    assert source.texts == ["COMMAND", "CHECK", "CANARY", "CANARY", "CANARY"]


class Fresh(Scripted):
    """Every sandbox is sound until its command has run; then *after* answers canary and condition."""

    def __init__(self, after: ExecResult | Exception) -> None:
        super().__init__(lambda text: done())
        self.after = after

    def acquire(self) -> Sandbox:
        super().acquire()
        broken = False

        def answer(text: str) -> ExecResult:
            nonlocal broken
            if text == "COMMAND":
                broken = True
                return done(137)
            if broken and isinstance(self.after, Exception):
                raise self.after
            return self.after if broken and isinstance(self.after, ExecResult) else done()

        self.answer = answer
        return ScriptedSandbox(self)


@pytest.mark.parametrize(
    ("after", "why"),
    [(GONE, FAULT), (SandboxError("does not answer as bash does"), "does not answer as bash does")],
)
def test_what_the_command_breaks_in_every_sandbox_is_its_failure(
    after: ExecResult | Exception, why: str
) -> None:
    source = Fresh(after)
    result = run(source, "SETUP")
    assert (result.status, result.error_kind, result.attempt) == ("failed", None, 2)
    assert sentence_of(result) == f"the command broke its sandbox: {why}"
    assert result.sandbox["canary"] == f"failed: {why}"
    assert Result.from_record(result.to_record()).broke == why
    assert [text for text in source.texts if "SETUP" in text] == ["eval SETUP\n"] * 2


def test_a_sandbox_that_dies_under_the_command_is_no_proof() -> None:
    result = run(Scripted(Turns(command=[SandboxError("connection lost")])))
    assert (result.status, result.error_kind) == ("error", "sandbox")
    assert result.faults == ["connection lost"] * 2


def test_a_setup_that_breaks_what_the_canary_needs_leaves_the_verdict() -> None:
    full = False

    def answer(text: str) -> ExecResult:
        nonlocal full
        if text.startswith("eval"):
            full = True
        return done({"CANARY": int(full), "COMMAND": 127, "CHECK": 1}.get(text, 0))

    class Emptied(Scripted):
        def acquire(self) -> Sandbox:
            nonlocal full
            full = False
            return super().acquire()

    result = run(Emptied(answer), "fill the disk")
    assert (result.status, result.attempt, result.broke) == ("failed", 2, "")


def test_without_a_second_attempt_doubt_is_an_error() -> None:
    result = run(Scripted(Turns(command=[done(137)], canary=[GONE])), attempts=1)
    assert (result.status, result.error_kind) == ("error", "sandbox")


def test_in_a_sandbox_of_the_callers_doubt_is_an_error() -> None:
    source = Scripted(Turns(command=[done(137)], canary=[GONE]))
    execution = Execution(task(), command(), source, ExecutionPolicy())
    with pytest.raises(SandboxError, match="known-good"):
        execution.run(ScriptedSandbox(source))
    assert execution.result.status == "error"


def test_programs_that_were_not_found_are_looked_for() -> None:
    for code in (127, 0):
        source = Scripted(
            Turns(command=[done(code, "bash: line 1: rg: command not found\n")], check=[done(1)])
        )
        assert run(source).missing == {"rg": None}
        assert canaries(source) == 1


def test_a_canary_that_is_cut_off_after_its_word_is_sound() -> None:
    """What is not told of programs is not known of them."""

    class Curt(ScriptedSandbox):
        def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
            said = super().exec(text, timeout=timeout, cwd=cwd)
            return done(0, said.output.splitlines()[0])

    health = examine(Curt(Scripted(Turns())), ["rg", "fd"])
    assert (health.fault, dict(health.programs)) == ("", {})
