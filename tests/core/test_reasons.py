"""Every failure in the words of someone who uses a shell."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pytest_shelleval.core.reasons import label_of, reason_of
from pytest_shelleval.core.syntax import parse, unfinished
from tests.report.records import Record, failed, record

CASES = [
    ("bash: line 1: jq: command not found\n", 127, "command not found: jq"),
    ("sh: 1: jq: not found\n", 127, "command not found: jq"),
    ("/usr/bin/env: ‘node’: No such file or directory\n", 127, "command not found: node"),
    ("xargs: rg: No such file or directory\n", 127, "command not found: rg"),
    ("", 127, "command not found"),
    ("bash: line 1: ./a.sh: Permission denied\n", 126, "permission denied: ./a.sh: Permission denied"),
    ("chown: changing owner: Operation not permitted\n", 1, "permission denied: chown: changing owner: Operation not permitted"),
    ("", 126, "can't be executed"),
    ("bash: line 2: /usr/bin: Is a directory\n", 126, "can't be executed: /usr/bin: Is a directory"),
    ("bash: line 2: ./a.sh: No such file or directory\n", 127, "no such file: ./a.sh: No such file or directory"),
    ("bash: line 2: C:x: command not found\n", 127, "command not found: C:x"),
    ("SyntaxError: '(' was never closed\n", 1, "syntax error in a script: SyntaxError: '(' was never closed"),
    ("s.sh: 2: Syntax error: newline unexpected\n", 2, "syntax error in a script: s.sh: 2: Syntax error: newline unexpected"),
    ("sed: -e expression #1, char 5: unterminated `s' command\n", 1, "syntax error in a script: sed: -e expression #1, char 5: unterminated `s' command"),
    ("ModuleNotFoundError: No module named 'x'\n", 1, "module not found: ModuleNotFoundError: No module named 'x'"),
    ("E: Unable to locate package jq\n", 100, "needs the network: E: Unable to locate package jq"),
    ("  0     0  0 --:--:-- 0curl: (6) Could not resolve host: x\n", 6, "needs the network: curl: (6) Could not resolve host: x"),
    ("Failed to connect to bus: Host is down\n", 1, "needs a service that is not running: Failed to connect to bus: Host is down"),
    ("", 255, "exit code 255"),
    ("", 129, "killed by SIGHUP"),
    ("Do you want to continue? [Y/n] Abort.\n", 1, "waits for input: Do you want to continue? [Y/n] Abort."),
    ("sudo: a terminal is required to read the password\n", 1, "waits for input: sudo: a terminal is required to read the password"),
    ("curl: (6) Could not resolve host: example.com\n", 6, "needs the network: curl: (6) Could not resolve host: example.com"),
    ("ls: unrecognized option '--x'\n", 2, "wrong option or argument: ls: unrecognized option '--x'"),
    ("cat: a.txt: No such file or directory\n", 1, "no such file: cat: a.txt: No such file or directory"),
    ("", 137, "killed by SIGKILL"),
    ("one\ntwo\n", 4, "exit code 4: two"),
    ("", 1, "exit code 1"),
]  # fmt: skip


@pytest.mark.parametrize(("output", "code", "expected"), CASES)
def test_a_failed_command(output: str, code: int, expected: str) -> None:
    reason = reason_of(failed(output=output, code=code))
    assert reason is not None
    assert reason.text == expected
    assert label_of(reason.text) == reason.label


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (failed(code=None, timed_out=True), "timed out"),
        (
            failed(code=None, timed_out=True, output="Password: "),
            "waits for input: timed out at Password:",
        ),
        (
            failed(code=None, timed_out=True, generated_command="tail -f log | grep x"),
            "timed out: tail -f does not end by itself",
        ),
        (failed(code=137, limit="memory"), "over the limit on memory"),
        (failed(code=3, exited=True), "exit code 3: it left the shell"),
        (
            failed(generated_command="read -p 'Sure? ' x"),
            "waits for input: read gets no input",
        ),
        (record("t", "failed"), "condition not met"),
        (record("t", "failed", test_output="a\nb is not c\n"), "condition not met: b is not c"),
        (
            record("t", "failed", tampered=["/usr/bin/grep"]),
            "it replaced programs that the condition may use: /usr/bin/grep",
        ),
        (
            failed(code=127, sandbox={"kind": "local", "canary": "failed: no bash"}),
            "it broke its own sandbox: no bash",
        ),
        (failed(code=127, sandbox={"kind": "local", "canary": "ok"}), "command not found"),
        (
            failed(generated_command=None, code=None, error="the reply has none"),
            "no command: the reply has none",
        ),
        (
            failed(code=6, effects={"network": {"lookups": 2, "unreachable": 0}}),
            "needs the network: it looked up a name",
        ),
        (
            record("t", "failed", effects={"network": {"lookups": 0, "unreachable": 1}}),
            "needs the network: it tried to connect",
        ),
        (
            failed(code=127, output="bash: line 1: rg: command not found", missing={"rg": None}),
            "command not found: rg, which the sandbox lacks",
        ),
        (
            failed(code=127, output="bash: ls: command not found", missing={"ls": "/usr/bin/ls"}),
            "command not found: ls, which the sandbox has as /usr/bin/ls",
        ),
        (record("t", "failed", test_timed_out=True), "the condition timed out"),
        (record("t", "failed", score=0.25), "the score is less than 1: 0.25"),
        (
            record("t", "failed", command_output="bash: line 1: rg: command not found\n0\n"),
            "command not found: rg",
        ),
        (
            record("t", "failed", test_exit_code=127, test_output="bash: jq: command not found"),
            "the condition could not run: jq was not found",
        ),
        (record("t", "error"), "sandbox error: the sandbox is gone"),
        (
            record("t", "error", error_kind=None, generated_command=None, error="HTTP 503"),
            "inference error: HTTP 503",
        ),
    ],
)
def test_other_ends(line: Record, expected: str) -> None:
    reason = reason_of(line)
    assert reason is not None
    assert reason.text == expected


UNEXPECTED = "bash: eval: line 2: syntax error near unexpected token `)'\n"


@pytest.mark.parametrize(
    ("command", "output", "code", "expected"),
    [
        ("echo )", UNEXPECTED, 2, "syntax error: near unexpected token `)'"),
        ("echo 'a", "bash: eval: line 2: unexpected EOF while looking for matching `''\n", 1,
         "syntax error: unexpected EOF while looking for matching `''"),
        ("if true; then", "bash: -c: line 3: syntax error: unexpected end of file\n", 2,
         "syntax error: unexpected end of file"),
        ("cat <<E > x\na", "bash: line 3: warning: here-document at line 2 delimited by end-of-file (wanted `E')\n", 0,
         "syntax error: here-document at line 1 delimited by end-of-file (wanted `E')"),
        # of something that the command ran, or with an option that bash -n does not know of
        ("bash -c 'echo )'", UNEXPECTED, 2, "syntax error in a script: eval: line 2: syntax error near unexpected token `)'"),
        ("shopt -s extglob\nls !(a)", UNEXPECTED, 2, "syntax error in a script: eval: line 2: syntax error near unexpected token `)'"),
        # it is bash, and never asked about
        ("echo )", "no", 1, "exit code 1: no"),
    ],
)  # fmt: skip
def test_whose_syntax_is_wrong(command: str, output: str, code: int, expected: str) -> None:
    line = failed(generated_command=command, output=output, code=code)
    if code == 0:
        line = record("t", "failed", generated_command=command, command_output=output)
    reason = reason_of(line)
    assert reason is not None
    assert reason.text == expected
    cut = reason_of({**line, "finish_reason": "length"})
    assert cut is not None
    assert cut.text.endswith("(the reply was cut at its limit)") == (cut.kind == "syntax")


def test_without_bash_the_message_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_shelleval.core.syntax.shutil.which", lambda name: None)
    reason = reason_of(failed(generated_command="echo ) # no bash", output=UNEXPECTED, code=2))
    assert reason is not None
    assert reason.text == "syntax error: near unexpected token `)'"


def test_commands_are_parsed_and_never_executed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for text in (f"touch {mark}", f"$(touch {mark})", f"set +n\ntouch {mark}", f"shopt -u -o noexec; touch {mark}", f"cat <<E\n$(touch {mark})\nE", f"x=`touch {mark}`)"):  # fmt: skip
        assert parse(text) is not None
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo 'a", True),
        ("if true", True),
        ("cat <<E\na", True),
        ("echo a", False),
        ("echo )", False),
    ],
)
def test_what_bash_would_read_on_after(text: str, expected: bool) -> None:
    assert unfinished(text) == expected


def test_a_pass_has_no_reason() -> None:
    assert reason_of(record("t")) is None


def test_an_error_is_never_read_from_the_output() -> None:
    reason = reason_of(record("t", "error", command_output="bash: x: command not found"))
    assert reason is not None
    assert reason.kind == "error"


@pytest.mark.parametrize(
    "output",
    ["password" * 100_000, "a: " * 300_000, ": " * 500_000, "x" * 1_000_000, "\n" * 99_999],
)
def test_hostile_output_takes_no_time(output: str) -> None:
    started = time.monotonic()
    reason_of(failed(output=output))
    assert time.monotonic() - started < 5  # quadratic work would take minutes
