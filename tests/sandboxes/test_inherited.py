"""What the process that started pytest had of its own (signals, niceness, limits) stays outside."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_users import ORDINARY, make_provider, ordinary_interpreter

from pytest_shelleval.sandboxes.base import Limits

# Policy, niceness and real-time priority are fields of stat; the rest names itself.
LOOK = r"""
grep -E '^Sig(Blk|Ign)' /proc/self/status
sed 's/.*) //' /proc/self/stat | cut -d' ' -f17,38,39
umask
ulimit -Sa
ulimit -Ha
cat /proc/self/oom_score_adj
"""
PYTHON = "python of an ordinary user"
BLOCKING = (
    "import os, signal, sys; "
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM]); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def shell(text: str) -> list[str]:
    return ["sh", "-c", f'{text}; exec "$@"', "sh"]


WAYS = {
    "nohup": ["nohup"],
    "trap": shell("trap '' HUP TERM USR1 CHLD"),
    "blocked": [PYTHON, "-S", "-c", BLOCKING],
    "batch": ["chrt", "--batch", "0"],
    "umask": shell("umask 077"),
    "soft": ["prlimit", "--nofile=200:", "--fsize=99999999:", "--stack=1048576:", "--cpu=99:"],
    "no-core": ["prlimit", "--core=0:0"],
    "oom": shell("echo 800 >/proc/self/oom_score_adj"),
}
# Only root may undo these, and the last one only with CAP_SYS_RESOURCE.
WAYS_OF_ROOT = {
    "nice": ["nice", "-n", "10"],
    "idle": ["chrt", "--idle", "0"],
    "fifo": ["chrt", "--fifo", "10"],
    "hard": [
        "prlimit",
        *("--nofile=200:200", "--fsize=99999999:99999999", "--data=900000000:900000000"),
        *("--stack=1048576:1048576", "--cpu=99:99", "--nproc=90:90"),
    ],
}


def may_raise_limits() -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> 24 & 1)


@pytest.fixture
def seen() -> Iterator[Callable[..., list[str]]]:
    """What commands see of themselves in a sandbox of a provider that *before* starts."""
    made: list[Any] = []

    def look(uid: int, *before: str) -> list[str]:
        start = [ordinary_interpreter() or "" if each == PYTHON else each for each in before]
        if start and shutil.which(start[0]) is None:
            pytest.skip(f"no {start[0]} here")
        made.append(make_provider("ordinary", Limits(), before=start, uid=uid))
        sandbox = made[-1].acquire()
        session = sandbox.exec_session(LOOK, timeout=30).output.splitlines()
        assert sandbox.exec(LOOK, timeout=30).output.splitlines() == session
        return session

    yield look
    for provider in made:
        provider.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("uid", [0, ORDINARY], ids=["root", "ordinary"])
def test_a_sandbox_is_the_same(seen: Callable[..., list[str]], uid: int, way: str) -> None:
    plain = seen(uid)
    assert seen(uid, *WAYS[way]) == plain
    blocked, ignored = (int(line.split()[1], 16) for line in plain[:2])
    # glibc's posix_spawn has the two that it needs for itself ignored
    assert (blocked, ignored & ~0x180000000) == (0, 0)
    assert (*plain[2:4], plain[-1]) == ("0 0 0", "0022", "500")


@pytest.mark.parametrize("way", WAYS_OF_ROOT)
def test_a_sandbox_of_root_is_the_same(seen: Callable[..., list[str]], way: str) -> None:
    if way == "hard" and not may_raise_limits():
        pytest.skip("root may not raise limits here")
    assert seen(0, *WAYS_OF_ROOT[way]) == seen(0)


def test_what_an_ordinary_user_may_not_undo_stays(seen: Callable[..., list[str]]) -> None:
    before = ["prlimit", "--nofile=200:200", "nice", "-n", "10"]
    told = "\n".join(seen(ORDINARY, *before))
    assert "\n10 0 0\n" in told
    assert told.count("(-n) 200\n") == 2


def test_an_oom_score_that_root_has_raised(seen: Callable[..., list[str]]) -> None:
    raised = "echo 800 >/proc/self/oom_score_adj"
    dropped = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
    if not may_raise_limits():
        pytest.skip("root may not raise the score for good here")
    assert seen(0, *shell(raised), *dropped)[-1] == "800"
