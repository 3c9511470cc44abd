"""A sandbox restored from a snapshot can't be told from the one that ran the setup."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.snapshots import Snapshots
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import Limits

LIMITS = Limits(memory=300 << 20, disk=64 << 20, processes=64)

SETUP = r"""
mkdir -p a/b && echo one > a/b/f && ln a/b/f a/g && chmod 4751 a/g && ln -s /nowhere l && mkfifo p
rm -rf /etc/skel && mkdir /etc/skel && echo n > /etc/skel/new
rm /etc/motd; rm /usr/bin/tac; mkdir -p /usr/local/bin && cp /bin/echo /usr/local/bin/e
truncate -s 3G hole; printf 'x\0y' > "$(printf 'na\nme\377')"; echo hi > bash
mkdir -m 2755 sg; chmod 1770 /opt; chmod 700 ~; mv /etc/hosts /etc/hosts2
rm -rf /var/cache && ln -s /tmp /var/cache && touch /var/cache/x
echo s > /dev/shm/s; touch -t 200001010101.02 a; touch -t 199901010101 /srv
chown 5:6 a/b/f sg l 2>/dev/null; chmod 700 /
true
"""
LOOK = r"""
cd /
find / -xdev \( -path /proc -o -path /usr/lib -o -path /usr/share \) -prune \
  -o -type d -printf '%p %m %U %G %t\n' -o -printf '%p %y %l %m %U %G %n %s %t %b\n' | sort
cat ~/bash ~/a/g /etc/skel/new /dev/shm/s
echo more >> ~/a/g; cat ~/a/b/f
python3 -c 'import os; os.rename("/home/shellm/a", "/home/shellm/z")'
stat -c %i ~/z/g ~/z/b/f | uniq | wc -l
"""


def test_nothing_tells_a_restored_sandbox(provider: Any) -> None:
    one, other = provider.acquire(), provider.acquire()
    assert one.exec(SETUP, timeout=60).output == ""
    snapshot = one.snapshot()
    assert snapshot
    other.restore(snapshot)
    expected, seen = one.exec(LOOK, timeout=60).output, other.exec(LOOK, timeout=60).output
    assert expected.splitlines() == seen.splitlines()
    assert expected.endswith("one\nn\ns\none\nmore\n1\n")
    for run in (one.exec_session, other.exec_session):
        assert run("pwd; cat bash", timeout=10).output == "/home/shellm\nhi\n"
    for each in (one, other):
        each.close()


@pytest.mark.parametrize(
    "setup",
    [
        "sleep 100 &",
        "python3 -c 'import socket, ctypes; ctypes.CDLL(None).msgget(7, 0o1600)'",
        "head -c 40M /dev/zero | tr '\\0' x > big",
        "python3 -c 'import os; [os.mkdir(str(name)) for name in range(10_500)]'",
        "mkdir -p /srv/$(printf 'd/%.0s' $(seq 64))",
    ],
    ids=["process", "message queue", "too large", "too many", "too deep"],
)
def test_what_is_not_caught(sandbox: Any, setup: str) -> None:
    assert sandbox.exec(setup, timeout=60).exit_code == 0
    assert sandbox.snapshot() is None
    assert sandbox.exec("echo on", timeout=10).output == "on\n"


def test_what_is_just_not_too_deep(provider: Any) -> None:
    one, other = provider.acquire(), provider.acquire()
    folder = "/srv/" + "d/" * 63
    assert one.exec(f"mkdir -p {folder} && echo deep > {folder}f", timeout=60).exit_code == 0
    other.restore(one.snapshot())
    assert other.exec(f"cat {folder}f", timeout=10).output == "deep\n"
    for each in (one, other):
        each.close()


def test_a_snapshot_that_is_none(provider: Any) -> None:
    sandbox = provider.acquire()
    with pytest.raises(SandboxError, match="could not be set up"):
        sandbox.restore(b"nonsense")


def test_a_setup_of_many_tasks_is_paid_once(provider: Any, tmp_path: Any) -> None:
    provider.snapshots = Snapshots(tmp_path)
    durations, marks = [], []
    for number in range(20):
        if number == 10:  # as another process of the same run has it
            provider.snapshots = Snapshots(tmp_path)
        task = Task(
            task_id=str(number),
            task="x",
            setup_commands=("sleep 1; echo one > f; echo said",),
            success_condition="grep -q two f",
        )
        command = Command(
            task_id=str(number),
            task="x",
            setup_commands=[],
            success_condition="",
            generated_command="echo two >> f",
            timestamp="",
        )
        execution = Execution(task, command, provider, ExecutionPolicy())
        result = execution.run()
        execution.release()
        assert result.overall_success
        assert result.setup_output == "said\n"
        durations.append(result.durations["setup"])
        marks.append(result.sandbox.get("snapshot", False))
    assert durations[0] >= 1
    assert max(durations[1:]) < 1
    assert marks == [False, *(True for _ in range(19))]
