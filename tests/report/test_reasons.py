"""Every failure in the words of someone who uses a shell."""

from __future__ import annotations

import time

import pytest

from pytest_shelleval.report.reasons import label_of, reason_of
from tests.report.records import Record, failed, record

CASES = [
    ("bash: line 3: syntax error: unexpected end of file\n", 2, "syntax error: unexpected end of file"),
    ("bash: -c: line 1: syntax error near unexpected token `)'\n", 1, "syntax error: near unexpected token `)'"),
    (
        "bash: line 2: unexpected EOF while looking for matching `''\n",
        2,
        "syntax error: unexpected EOF while looking for matching `''",
    ),
    ("bash: line 1: jq: command not found\n", 127, "command not found: jq"),
    ("sh: 1: jq: not found\n", 127, "command not found: jq"),
    ("/usr/bin/env: ‘node’: No such file or directory\n", 127, "command not found: node"),
    ("xargs: rg: No such file or directory\n", 127, "command not found: rg"),
    ("", 127, "command not found"),
    ("bash: line 1: ./a.sh: Permission denied\n", 126, "permission denied: ./a.sh: Permission denied"),
    ("chown: changing owner: Operation not permitted\n", 1, "permission denied: chown: changing owner: Operation not permitted"),
    ("", 126, "permission denied: what it calls can't be executed"),
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
        (failed(code=137, limit="memory"), "over the limit on memory"),
        (failed(code=3, exited=True), "exit code 3: it left the shell"),
        (
            failed(generated_command="read -p 'Sure? ' x"),
            "waits for input: read finds its input at the end",
        ),
        (record("t", "failed"), "condition not met"),
        (record("t", "failed", test_timed_out=True), "the condition timed out"),
        (record("t", "failed", score=0.25), "the score is less than 1: 0.25"),
        (
            record("t", "failed", command_output="bash: line 1: rg: command not found\n0\n"),
            "command not found: rg",
        ),
        (
            record("t", "failed", test_exit_code=127, test_output="bash: jq: command not found"),
            "the condition could not run: jq is not there",
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
