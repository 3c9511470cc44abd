"""shelleval reproduce, in a process of its own, with a shell that reads what a person would type."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.report.recorded import find_recorded, reproduction
from pytest_shelleval.sandboxes.local.probe import probe
from tests.report.records import failed, record, write_run

SETTINGS = {"command_timeout": 1, "memory": 1 << 28, "disk": 1 << 24, "processes": 64}
LINES = [
    failed(
        "copy",
        setup_commands=["echo a > a.txt", "echo ready"],
        generated_command="cd /srv; cp a.txt b.txt; x=kept",
        success_condition="echo looking; cmp a.txt b.txt",
        test_exit_code=2,
    ),
    failed("left", generated_command="cd /srv; echo bye; exit 3", code=3),
    record("shared", steps="shared", setup_commands=["cd /tmp"], generated_command="pwd"),
    record("setup", "error", error_kind="setup", setup_commands=["echo no; false"]),
    failed("slow", generated_command="cd /tmp; sleep 60", code=None),
    record("silent", "error", error_kind="inference", generated_command=None, error="HTTP 503"),
]
MANY = [record("many", model=m, sample=s) for m in ("small", "large") for s in (0, 1)]
MANY[-1].update(failed("many", model="large", sample=1))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    summary = {"settings": SETTINGS}
    return write_run(tmp_path_factory.mktemp("run") / "evaluation results", LINES, summary)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("several"), MANY, {"settings": SETTINGS})


def reproduce(results: Path, *args: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    if not probe().ok:
        pytest.skip(probe().message)
    return subprocess.run(
        [sys.executable, "-m", "pytest_shelleval.cli.main", "reproduce", str(results), *args],
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_sandbox_is_as_after_the_command(results: Path) -> None:
    typed = "pwd; echo $x\nls ~\ncat <<E\nhi $x\nE\ncd /etc\nfalse\npwd\nexit\necho never\n"
    done = reproduce(results, "copy", "--check", typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "result     copy: failed",
        "sandbox    local host, steps separate",
        "task       Do what copy says",
        "setup      $ echo a > a.txt",
        "             echo ready",
        "           | ready",
        "command    $ cd /srv; cp a.txt b.txt; x=kept",
        "           exit code 0 (recorded: 1)",
        "           | cp: cannot stat 'a.txt': No such file or directory",
        "condition  $ echo looking; cmp a.txt b.txt",
        "           exit code 2 (as recorded)",
        "           | looking",
        "           | cmp: b.txt: No such file or directory",
        "           the condition is not met",
        *("/srv", "kept", "a.txt", "hi kept", "(exit code 1)", "/etc"),
    ]


@pytest.mark.parametrize(
    ("name", "typed", "said"),
    [
        # a command that left its shell: the lines go on where it ended, each in a fresh one
        ("left", "pwd\ncd /etc\n(exit 4)\npwd", ["/srv", "(exit code 4)", "/etc"]),
        ("slow", "pwd", ["exit code none: it timed out (as recorded)", "/tmp"]),
        ("shared", "ls ..", ["steps shared", "exit code 0 (as recorded)", "| /tmp", "home"]),
        ("setup", "pwd", ["| no", "setup failed with exit code 1", "/home/shellm"]),
        ("silent", "pwd", ["there is none: HTTP 503", "/home/shellm"]),
        ("copy", "printf '\\033[2J'", ["\\x1b[2J"]),
        ("copy", "exec false\necho on", ["(exit code 1)", "(The shell has ended", "on"]),
        ("copy", "ulimit -u", ["64"]),
    ],
)
def test_other_ends(results: Path, name: str, typed: str, said: list[str]) -> None:
    done = reproduce(results / "results.jsonl", name, typed=typed)
    assert (done.returncode, done.stderr) == (0, "")
    place = 0
    for part in said:
        assert part in done.stdout[place:], done.stdout
        place = done.stdout.index(part, place) + len(part)


def test_a_person_at_a_terminal(results: Path) -> None:
    if not probe().ok:
        pytest.skip(probe().message)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest_shelleval.cli.main", "reproduce", str(results), "copy"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY),  # so that Ctrl-C is a signal
    )
    os.close(theirs)

    def read_until(text: str) -> str:
        seen, deadline = "", time.monotonic() + 60
        while text not in seen:
            left = max(0.0, deadline - time.monotonic())
            assert select.select([ours], [], [], left)[0], seen
            seen += os.read(ours, 4096).decode()
        return seen

    try:
        assert "look round" in read_until("sandbox$ ")
        os.write(ours, b"echo 'one\n")
        read_until("> ")
        os.write(ours, b"two'\n")
        assert "one\r\ntwo" in read_until("sandbox$ ")
        os.write(ours, b"gibberish")
        read_until("gibberish")  # echoed: it waits for more
        time.sleep(0.2)
        os.write(ours, b"\x03")  # Ctrl-C at the prompt
        read_until("sandbox$ ")
        os.write(ours, b"\x04")
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def test_wrong_names_are_answered_with_near_ones(results: Path, several: Path) -> None:
    for run, name, said in (
        (results, "copyy", "has no result 'copyy'; similar: copy"),
        (several, "manny", "; similar: many"),
        (several, "many[huge-0]", "; similar: many"),
        (results, "zzzzzz", "has no result 'zzzzzz', of 6 results"),
    ):
        with pytest.raises(UserError) as refused:
            find_recorded(run, name)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)
    done = reproduce(results, "copyy")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"shelleval: {results}")


@pytest.mark.parametrize(
    ("wanted", "model", "sample", "others"),
    [
        ("many", "large", 1, 3),  # the one that did not pass
        ("many[small]", "small", 0, 1),
        ("many[1]", "large", 1, 1),
        ("many[small-1]", "small", 1, 0),
        ("data/tasks.jsonl::many[large-0]", "large", 0, 0),
    ],
)
def test_results_have_the_names_of_their_items(
    several: Path, wanted: str, model: str, sample: int, others: int
) -> None:
    found = find_recorded(several, wanted)
    assert (found.record["model"], found.record["sample"]) == (model, sample)
    assert found.others == others
    assert found.name == f"many[{model}-{sample}]"
    assert found.settings == SETTINGS


def test_without_summary_and_without_such_a_kind(tmp_path: Path, results: Path) -> None:
    line: dict[str, Any] = {
        **LINES[0],
        "sandbox": {"kind": "sos", "image": "x", "url": "http://127.0.0.1:9"},
    }
    run = write_run(tmp_path / "it's", [line])
    done = reproduce(run, "copy")
    assert done.returncode == 2
    assert done.stderr.startswith("shelleval: the run used sos sandboxes: no SoS server")
    assert done.stderr.endswith("--sandbox=local uses one on this machine\n")
    done = reproduce(run, "copy", "--sandbox=local")
    assert done.returncode == 0
    assert "no summary.json: using the default limits and times" in done.stdout
    with pytest.raises(UserError, match="no such file"):
        find_recorded(tmp_path / "nowhere", "copy")


def test_the_line_is_fit_for_a_shell() -> None:
    assert reproduction("evaluation_results", "t-1") == "shelleval reproduce evaluation_results t-1"
    line = reproduction("my runs", "t[it's-0]")
    said = subprocess.run(
        ["bash", "-c", f'shelleval() {{ printf "%s\\n" "$@"; }}; {line}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines() == ["reproduce", "my runs", "t[it's-0]"]
