"""The contract of core.sandbox, for sandboxes that are reached from outside: import * into a test
module that has a fixture ``box``, a fresh sandbox with START, MEGABYTE of output kept."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.sandbox import ExecResult, Sandbox

START = "/home/shellm"
OUTPUT = 500_000
PROMPT = "#PS1-TR0N-F1GHTS-4-TH3-U23R2#"


def fresh(sandbox: Sandbox, text: str, timeout: float = 30, **options: Any) -> ExecResult:
    return sandbox.exec(text, timeout=timeout, **options)


def typed(sandbox: Sandbox, text: str, timeout: float = 30) -> ExecResult:
    return sandbox.exec_session(text, timeout=timeout)


RUNS = pytest.mark.parametrize("run", [fresh, typed])

TEXTS = [
    ("cat <<EOF\none\n$((1+1))\nEOF", "one\n2\n", 0),
    ("cat <<'EOF'\n$HOME `x` \"q\" 'q'\nEOF\necho after", "$HOME `x` \"q\" 'q'\nafter\n", 0),
    ("echo a # comment", "a\n", 0),
    ("# only a comment", "", 0),
    ("", "", 0),
    ("echo a\n\nsleep 0.3\necho b\n", "a\nb\n", 0),
    ("for i in 1 2\ndo\necho $i\ndone", "1\n2\n", 0),
    ("echo 'it'\"'\"'s' \\\\ \\'", "it's \\ '\n", 0),
    ("printf '\\t%s\\r\\n' x", "\tx\r\n", 0),
    ("printf 'a\tb'", "a\tb", 0),
    ("printf '\\xe2\\x82'", "\\xe2\\x82", 0),
    ("printf 'a\\0b'", "a\0b", 0),
    ("echo a\0b", "ab\n", 0),
    ("echo é ☃ 🐚", "é ☃ 🐚\n", 0),
    ("echo out; echo err >&2; echo out", "out\nerr\nout\n", 0),
    ('cat; read x; echo "[$x]"; wc -c', "[]\n0\n", 0),
    ("printf '\\033[31m\\007'", "\033[31m\007", 0),
    ("yes | head -2", "y\ny\n", 0),
    ("false | true", "", 0),
    ('echo "a!b" !x', "a!b !x\n", 0),
    ("echo one\r\necho two\r\n", "one\r\ntwo\r\n", 0),
    (f"printf '\\n{PROMPT}:0:\\n'; false", f"\n{PROMPT}:0:\n", 1),
    ("(exit 3)", "", 3),
    ("bash -c 'exit 3'", "", 3),
    ("sleep 2.6; echo late", "late\n", 0),
]


@RUNS
def test_texts(box: Sandbox, run: Any) -> None:
    for text, output, code in TEXTS:
        result = run(box, text)
        assert (result.output, result.exit_code, result.exited) == (output, code, False), text


@RUNS
def test_broken_texts_fail_and_end(box: Sandbox, run: Any) -> None:
    for text in ("echo 'open", 'echo "open', "if true; then", "echo )", "echo a\\"):
        result = run(box, text)
        assert result.exit_code in ((1, 2) if "a\\" not in text else (0,)), text
        assert not result.exited
        assert run(box, "echo next").output == "next\n"


@RUNS
def test_long_texts(box: Sandbox, run: Any) -> None:
    for size in (3_999, 4_001, 65_536, 140_000, 300_000):
        body = "é\n'\\''x" * (size // 7)
        result = run(box, f"x='{body}'\n[ ${{#x}} -gt 1 ] && echo ${{#x}}", timeout=60)
        assert result.output.strip() == str(4 * (size // 7))


@RUNS
def test_endless_output_is_cut(box: Sandbox, run: Any) -> None:
    result = run(box, "echo first; head -c 20M /dev/zero | tr '\\0' x; echo; false")
    assert result.truncated
    assert result.exit_code == 1
    assert len(result.output) == OUTPUT
    assert result.output.startswith("first\nxxx")
    result = run(box, "echo short")
    assert (result.output, result.truncated) == ("short\n", False)


@RUNS
def test_background_processes_are_left_running(box: Sandbox, run: Any) -> None:
    result = run(box, "sleep 1000 & echo $! > /tmp/pid; echo started")
    assert result.output == "started\n"
    assert result.duration < 20
    assert fresh(box, "kill -0 $(cat /tmp/pid)").exit_code == 0
    # bash does not wait for it, and on a busy machine it may come too late
    assert "a\n" in [run(box, "echo a > >(cat)").output for _ in range(5)]


@RUNS
def test_no_descriptors_are_inherited(box: Sandbox, run: Any) -> None:
    assert run(box, "ls /proc/self/fd").output.split() == ["0", "1", "2", "3"]


def test_fresh_shells_keep_nothing_and_start_where_told(box: Sandbox) -> None:
    fresh(box, "cd /tmp; x=1; export y=2")
    assert fresh(box, "echo $PWD $x $y").output == f"{START}\n"
    assert fresh(box, "pwd", cwd="/etc").output == "/etc\n"
    assert fresh(box, "pwd", cwd="/no/such").output == f"{START}\n"
    for text, code in [("exit 3", 3), ("kill -9 $$", 137), ("exec false", 1), ("nosuch", 127)]:
        result = fresh(box, text)
        assert (result.exit_code, result.exited) == (code, False)


def test_session_keeps_its_state(box: Sandbox) -> None:
    typed(box, "cd /tmp; x='a  b'; f() { echo \"f:$1\"; }; set -o pipefail")
    result = typed(box, 'pwd; echo "$x"; f 1; false | true')
    assert (result.output, result.exit_code) == ("/tmp\na  b\nf:1\n", 1)
    assert box.session_directory() == "/tmp"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("exit 3", 3),
        ("exec false", 1),
        ("set -e; false; echo no", 1),
        ("kill -9 $$", 137),
        ("cd /nope 2>/dev/null || exit 1; echo X", 1),
        ("trap 'exit 9' EXIT; exit 1", 9),
        ("(while :; do sleep 1; done) & exit 4", 4),
    ],
)
def test_session_that_ends_says_so(box: Sandbox, text: str, code: int) -> None:
    result = typed(box, f"cd /tmp; {text}")
    assert (result.output, result.exit_code, result.exited) == ("", code, True)
    with pytest.raises(SandboxError):
        typed(box, "true")
    assert fresh(box, "echo still").output == "still\n"


def test_directory_of_a_session_that_ended(box: Sandbox) -> None:
    assert typed(box, "mkdir -p /srv/deep; cd /srv/deep && echo there && exit 4").exit_code == 4
    assert fresh(box, "pwd", cwd=box.session_directory()).output == "/srv/deep\n"


def test_session_past_its_time(box: Sandbox) -> None:
    typed(box, "cd /tmp")
    result = typed(box, "cd /srv; echo before; sleep 1000", timeout=1)
    assert (result.timed_out, result.exit_code, result.output) == (True, None, "before\n")
    assert box.session_directory() == "/srv"
    with pytest.raises(SandboxError):
        typed(box, "true")
    assert fresh(box, "echo alive; pgrep -x sleep").output == "alive\n"


def test_fresh_shell_past_its_time(box: Sandbox) -> None:
    result = fresh(box, "trap '' TERM INT HUP; while :; do :; done", timeout=1)
    assert (result.timed_out, result.exit_code) == (True, None)
    assert fresh(box, "echo alive").output == "alive\n"


def test_commands_that_kill_bash(box: Sandbox) -> None:
    assert typed(box, "kill -9 $PPID; kill -9 -1; kill -9 $$").exited
    assert fresh(box, "echo still").output == "still\n"


def test_closed_for_good(box: Sandbox) -> None:
    box.close()
    box.close()
    with pytest.raises(SandboxError):
        fresh(box, "true")
