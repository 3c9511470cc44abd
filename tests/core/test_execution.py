"""One task through a sandbox: verdicts, errors, retries. The sandbox here is a script."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.execution import Execution, ExecutionPolicy, SetupFailed, setup_script
from pytest_shelleval.core.observation import tampered
from pytest_shelleval.core.reasons import sentence_of
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import ExecResult, Sandbox, SandboxProvider
from pytest_shelleval.core.tasks import Task
from tests.core.fakes import Answer, Scripted, ScriptedSandbox, command, done, task


def run(source: SandboxProvider, the_task: Task, **policy: Any) -> Result:
    execution = Execution(the_task, command(), source, ExecutionPolicy(**policy))
    try:
        execution.prepare()
        return execution.run()
    finally:
        execution.release()


@pytest.mark.parametrize(
    ("of_command", "of_check", "status", "reason"),
    [
        (done(0), done(0), "passed", ""),
        (done(3), done(0), "failed", "the command failed with exit code 3"),
        (done(0), done(1), "failed", "the success condition is not met (exit code 1)"),
        (done(None, timed_out=True), done(0), "failed", "the command timed out"),
        (done(137, limit="memory"), done(0), "failed", "the command went over the limit on memory"),
        (done(0, limit="disk"), done(0), "failed", "the command went over the limit on disk"),
        (done(0), done(None, timed_out=True), "failed", "the success condition timed out"),
    ],
)
def test_the_verdict_needs_both_command_and_condition(
    of_command: ExecResult, of_check: ExecResult, status: str, reason: str
) -> None:
    source = Scripted(lambda text: {"COMMAND": of_command, "CHECK": of_check}.get(text, done()))
    result = run(source, task())
    assert (result.status, sentence_of(result)) == (status, reason)
    assert result.overall_success == (result.command_success and result.test_passed)
    assert result.overall_success == (status == "passed")
    assert source.open == 0


def test_a_reply_without_a_command_is_a_failure_in_every_field() -> None:
    result = Result.of(task(), command(None))
    result.fail_without_command("the model declined")
    record = result.to_record()
    assert (record["status"], record["error"]) == ("failed", "the model declined")
    for name in ("overall_success", "command_success", "test_passed"):
        assert record[name] is False
    assert sentence_of(result) == "no command: the model declined"


def test_a_sandbox_that_gives_no_account_is_no_fault() -> None:
    """That it has died shows at its next step, where it is told apart from the command's doing."""

    class Watching(ScriptedSandbox):
        def mark(self) -> None:
            raise SandboxError("gone")

        def effects(self) -> dict[str, Any]:
            raise SandboxError("gone")

    source = Scripted(lambda text: done())
    execution = Execution(task("setup"), command(), source, ExecutionPolicy())
    result = execution.run(Watching(source))
    assert (result.status, result.effects) == ("passed", None)
    source.acquire = lambda: Watching(source)  # type: ignore[method-assign]
    result = run(source, task("setup"))
    assert (result.status, result.effects, result.attempt) == ("passed", None, 1)


def test_steps_of_a_session_are_timed_from_the_start_of_the_attempt() -> None:
    begun = time.monotonic()
    result = run(Scripted(lambda text: done()), task("one", "two"), steps="shared")
    most = time.monotonic() - begun
    times = [step["timestamp"] for step in result.trajectory]
    assert len(times) > 1
    assert times == sorted(times)
    assert all(0 <= each <= most + 1e-6 for each in times)


def test_separate_steps_start_afresh() -> None:
    source = Scripted(lambda text: done())
    run(source, task("one # comment", "two"))
    assert [(kind, cwd) for kind, _, cwd in source.asked] == [
        ("exec", None),
        ("session", None),
        ("exec", None),
    ]


def test_shared_steps_share_the_session_and_the_row_may_ask_for_it() -> None:
    for the_task, steps in (
        (task("one", "two", steps="shared"), "separate"),
        (task("one", "two"), "shared"),
    ):
        source = Scripted(lambda text: done(output=text + "\n"))
        result = run(source, the_task, steps=steps)
        assert source.asked == [
            ("session", "one", None),
            ("session", "two", None),
            ("session", "COMMAND", None),
            ("exec", "CHECK", "/where/it/ended"),
        ]
        assert result.setup_output == "one\ntwo\n"
        assert [step["command"] for step in result.trajectory] == ["one", "two", "COMMAND"]
        assert result.steps == "shared"


@pytest.mark.parametrize("steps", ["separate", "shared"])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (done(2), "failed with exit code 2"),
        (done(None, timed_out=True), "took longer than 300 s"),
        (done(0, limit="disk"), "went over the sandbox's limit on disk"),
    ],
)
def test_a_failed_setup_is_an_error_and_no_verdict(
    steps: str, answer: ExecResult, message: str
) -> None:
    source = Scripted(lambda text: answer)
    execution = Execution(task("x"), command(), source, ExecutionPolicy(steps=steps))  # type: ignore[arg-type]
    with pytest.raises(SetupFailed, match=message):
        execution.prepare()
    execution.release()
    assert (execution.result.status, execution.result.error_kind) == ("error", "setup")
    assert "COMMAND" not in str(source.asked)
    assert (source.acquired, source.open) == (1, 0)


def test_a_setup_that_leaves_a_shared_shell_is_an_error() -> None:
    source = Scripted(lambda text: done(0, exited=text == "exit"))
    execution = Execution(task("exit", "x"), command(), source, ExecutionPolicy(steps="shared"))
    with pytest.raises(SetupFailed, match="setup command 1 of 2 ended the shell"):
        execution.prepare()


def test_only_the_last_setup_command_decides_unless_strict() -> None:
    def answer(text: str) -> ExecResult:
        return done(1 if text == "bad" else 0)

    assert run(Scripted(answer), task("bad", "good"), steps="shared").status == "passed"
    with pytest.raises(SetupFailed, match="setup command 1 of 2 failed"):
        run(Scripted(answer), task("bad", "good"), steps="shared", strict_setup=True)


@pytest.mark.parametrize(
    ("items", "strict", "output", "code"),
    [
        (["echo a # comment", "echo b"], False, "a\nb\n", 0),
        (["cat <<E\nin\nE", "echo b"], False, "in\nb\n", 0),
        (["echo a &", "wait; echo b"], False, "a\nb\n", 0),
        (["x='it'\"'\"'s'", 'echo "$x"'], False, "it's\n", 0),
        (["cd /", "pwd"], False, "/\n", 0),
        (["echo a;", "", "echo b"], False, "a\nb\n", 0),
        (["false", "echo b"], False, "b\n", 0),
        (["false", "echo b"], True, "", 1),
        (["echo a", "(exit 3)"], False, "a\n", 3),
        (["exit 4", "echo b"], False, "", 4),
    ],
)
def test_setup_commands_run_in_order_each_whole(
    items: list[str], strict: bool, output: str, code: int
) -> None:
    ran = subprocess.run(
        ["bash", "-c", setup_script(items, strict=strict)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.returncode) == (output, code)


def test_a_syntax_error_stays_in_its_item() -> None:
    script = setup_script(["echo 'open", "echo b"], strict=False)
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert ran.stdout == "b\n"


def test_infrastructure_faults_are_tried_again_in_a_fresh_sandbox() -> None:
    result = run(Scripted(lambda text: done(), broken=2), task())
    assert (result.status, result.attempt) == ("passed", 3)
    assert result.faults == ["no sandbox today"] * 2


def test_a_sandbox_that_dies_under_the_command_is_replaced_and_set_up_again() -> None:
    calls: list[str] = []

    def answer(text: str) -> ExecResult:
        calls.append(text)
        if calls.count("COMMAND") == 1 and text == "COMMAND":
            raise SandboxError("died")
        return done()

    source = Scripted(answer)
    result = run(source, task("SETUP", steps="shared"))
    assert [text for text in calls if text != "CANARY"] == [
        *("SETUP", "COMMAND"),
        *("SETUP", "COMMAND", "CHECK"),
    ]
    assert (result.status, result.attempt, source.open) == ("passed", 2, 0)
    assert [step["command"] for step in result.trajectory] == ["SETUP", "COMMAND"]


def test_an_infrastructure_fault_that_stays_is_an_error() -> None:
    source = Scripted(lambda text: done(), broken=9)
    execution = Execution(task(), command(), source, ExecutionPolicy())
    with pytest.raises(SandboxError, match="no sandbox today"):
        execution.prepare()
    assert (execution.result.status, execution.result.error_kind) == ("error", "sandbox")
    assert source.acquired == 3


def test_a_sandbox_that_can_never_work_is_not_tried_again() -> None:
    class Never(Scripted):
        def acquire(self) -> Sandbox:
            self.acquired += 1
            raise SandboxUnavailable("not on this machine")

    source = Never(lambda text: done())
    with pytest.raises(SandboxUnavailable):
        run(source, task())
    assert source.acquired == 1


@pytest.mark.parametrize(
    ("score", "status", "reason"),
    [
        (1, "passed", ""),
        (True, "passed", ""),
        (0.5, "failed", "the score is 0.5, less than 1"),
        (None, "failed", "the success condition is not met (exit code 1)"),
    ],
)
def test_a_score_stands_in_for_the_condition(score: float | None, status: str, reason: str) -> None:
    source = Scripted(lambda text: done((text != "COMMAND" and 1) or 0))
    execution = Execution(task(), command(), source, ExecutionPolicy())
    result = execution.run(score=lambda result, sandbox: score)
    execution.release()
    assert (result.status, sentence_of(result)) == (status, reason)


def test_a_result_survives_its_record() -> None:
    result = run(Scripted(lambda text: done(output="out")), task("x", tags=("git",)))
    record = result.to_record()
    assert Result.from_record(record).to_record() == record
    assert record["tags"] == ["git"]
    assert list(record)[:6] == [
        "task_id",
        "task",
        "setup_commands",
        "success_condition",
        "generated_command",
        "timestamp",
    ]


# --- what a sandbox says of a command's doings


def effects(**more: Any) -> dict[str, Any]:
    return {"created": [], "processes": [], "tampered": [], "removed": [], **more}


class ObservedSandbox(ScriptedSandbox):
    def __init__(self, script: Observed) -> None:
        super().__init__(script)
        self._observed = script

    def mark(self) -> None:
        self._script.asked.append(("mark", "", None))

    def effects(self) -> dict[str, Any]:
        self._script.asked.append(("effects", "", None))
        seen = self._observed.seen
        if not seen:
            raise SandboxError("blind")
        return seen.pop(0) if len(seen) > 1 else seen[0]


class Observed(Scripted):
    def __init__(self, answer: Answer, *seen: dict[str, Any]) -> None:
        super().__init__(answer)
        self.seen = list(seen)

    def acquire(self) -> Sandbox:
        super().acquire()
        return ObservedSandbox(self)


def test_effects_are_those_of_the_command() -> None:
    source = Observed(lambda text: done(), effects(created=[{"path": "/a"}]))
    result = Execution(task("SETUP"), command(), source, ExecutionPolicy()).run()
    assert [kind for kind, _, _ in source.asked] == ["exec", "mark", "session", "effects", "exec"]
    assert result.status == "passed"
    assert result.effects == effects(created=[{"path": "/a"}])
    assert result.to_record()["effects"]["created"] == [{"path": "/a"}]


def test_effects_that_can_not_be_had_break_nothing() -> None:
    source = Observed(lambda text: done())
    result = Execution(task(), command(), source, ExecutionPolicy()).run()
    assert (result.status, result.effects, result.tampered) == ("passed", None, [])


def test_replaced_programs_are_a_failure() -> None:
    source = Observed(lambda text: done(), effects(tampered=["/usr/bin/grep"]))
    execution = Execution(task(), command(), source, ExecutionPolicy())
    result = execution.run(score=lambda result, sandbox: 1.0)
    assert (result.status, result.test_passed, result.command_success) == ("failed", False, True)
    assert sentence_of(result) == (
        "the command replaced programs that the condition may use: /usr/bin/grep"
    )


def test_processes_left_running_are_watched_through_the_condition() -> None:
    source = Observed(
        lambda text: done(), effects(processes=["sh"]), effects(tampered=["/usr/bin/grep"])
    )
    result = Execution(task(), command(), source, ExecutionPolicy()).run()
    assert (result.status, result.tampered) == ("failed", ["/usr/bin/grep"])
    assert result.effects == effects(processes=["sh"])


@pytest.mark.parametrize(
    ("condition", "matters"),
    [
        ("! grep -q x f", True),
        ("test -f x && grep x f", True),
        ("cat f | grep x", True),
        ("[ -z $(grep x f) ]", True),
        ("[ -z `/usr/bin/grep x f` ]", True),
        ("if ! grep x f; then true; fi", True),
        ("true\n  grep x", True),
        ("! test -e /usr/bin/grep", False),
        ("! command -v grep", False),
        ("! which grep", False),
        ("grep-like x", False),
        ("test -f grep", False),
        ("egrep x f", False),
    ],
)
def test_programs_that_are_gone_matter_where_they_are_run(condition: str, matters: bool) -> None:
    assert tampered(condition, effects(removed=["/usr/bin/grep"])) == (
        ["/usr/bin/grep"] if matters else []
    )
