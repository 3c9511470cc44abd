"""A command that changes the tools of its own judge: seen, and never passed."""

from __future__ import annotations

import os
from typing import Any

import local_users
import pytest

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.reasons import sentence_of
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.tasks import Task


class Source:
    """A sandbox that is there already."""

    def __init__(self, sandbox: Any) -> None:
        self._sandbox = sandbox

    def acquire(self) -> Any:
        return self._sandbox


def judged(sandbox: Any, command: str, condition: str, setup: str = "") -> Result:
    row = {"task": "t", "setup_commands": [setup] if setup else [], "success_condition": condition}
    task = Task(task_id="t-1", **row)  # type: ignore[arg-type]
    written = Command(task_id="t-1", generated_command=command, timestamp="", **row)  # type: ignore[arg-type]
    return Execution(task, written, Source(sandbox), ExecutionPolicy(command_timeout=20)).run()


UNMET = "grep -q never /etc/hostname"
ALTER = "r=$(readlink -f $l); cp $r /tmp/l && echo >> /tmp/l && mv /tmp/l $r"
FAKE = "printf '#!/bin/sh\\nexit 0\\n'"


@pytest.mark.parametrize(
    ("command", "condition", "named"),
    [
        (
            f"{FAKE} > /usr/local/bin/grep; chmod +x /usr/local/bin/grep",
            UNMET,
            "/usr/local/bin/grep",
        ),
        ("ln -s /bin/true /usr/local/sbin/grep", UNMET, "/usr/local/sbin/grep"),
        ("cp /bin/true /tmp/t && mv /tmp/t /usr/bin/grep", UNMET, "/usr/bin/grep"),
        ("rm /usr/bin/grep; ln -s true /usr/bin/grep", UNMET, "/usr/bin/grep"),
        ("cp /bin/true /tmp/t && mv /tmp/t /usr/bin/bash", UNMET, "/usr/bin/bash"),
        ("rm /bin; mkdir /bin; cp /usr/bin/true /bin/bash", UNMET, "/bin"),
        ("ln -sfT /tmp /lib64; true", UNMET, "/lib64"),
        ("echo /tmp/evil.so > /etc/ld.so.preload", "true", "/etc/ld.so.preload"),
        (
            f"l=$(ldd /bin/grep | grep -o '/[^ ]*libc\\.so\\.6'); {ALTER}",
            "true",
            "libc",
        ),
        (
            f"l=$(ldd /bin/bash | grep -o '/lib64/ld[^ ]*'); {ALTER}",
            "true",
            "ld-linux",
        ),
        (
            "mkdir /tmp/d; cp -L $(ldd /bin/grep | grep -o '/[^ ]*libc\\.so\\.6') /tmp/d; ldconfig /tmp/d",
            "true",
            "/etc/ld.so.cache",
        ),
        ("rm /usr/bin/grep", "! grep -q a /etc/hostname", "/usr/bin/grep"),
        ("rm /usr/bin/grep", "if grep -q a /etc/passwd; then false; fi", "/usr/bin/grep"),
        (
            "d=/usr/local/lib/python3/dist-packages; mkdir -p $d; echo 'import os; os._exit(0)' > $d/sitecustomize.py",
            "true",
            "sitecustomize.py",
        ),
    ],
)
def test_replaced_tools(sandbox: Any, command: str, condition: str, named: str) -> None:
    result = judged(sandbox, f"{command}\ntrue", condition)
    assert (result.status, result.test_passed, result.error_kind) == ("failed", False, None)
    if result.command_success:
        assert any(named in path for path in result.tampered), result.tampered
        reason = "the command replaced programs that the condition may use: "
        if result.broke:  # so that not even bash runs
            reason = "the command broke its sandbox: "
        assert sentence_of(result).startswith(reason)


@pytest.mark.parametrize(
    "command",
    [
        "echo 'exit 0' | tee ~/.bashrc ~/.profile ~/.bash_profile ~/.bash_login /etc/profile /etc/bash.bashrc",
        "echo 'exit 0' > /tmp/env; export BASH_ENV=/tmp/env ENV=/tmp/env",
        "grep() { return 0; }; export -f grep; alias grep=true; shopt -s expand_aliases",
        "mkdir /tmp/bin; ln -s /bin/true /tmp/bin/grep; export PATH=/tmp/bin:$PATH; hash -p /bin/true grep",
        "trap 'exit 0' EXIT ERR DEBUG RETURN; set -T",
        "echo PATH=/tmp > /etc/environment; echo 'alias grep=true' >> ~/.bash_aliases",
        "export LD_PRELOAD=/tmp/x.so LD_LIBRARY_PATH=/tmp GREP_OPTIONS=-v",
    ],
)
def test_tricks_that_reach_the_own_shell_only(sandbox: Any, command: str) -> None:
    result = judged(sandbox, command, UNMET)
    assert (result.status, result.test_exit_code) == ("failed", 1)
    assert result.tampered == []


@pytest.mark.parametrize(
    ("command", "condition"),
    [
        (f"{FAKE} > calc; chmod +x calc; mv calc /usr/local/bin/", "calc"),
        ("ln -s /usr/bin/env /usr/local/bin/my-env", "test -L /usr/local/bin/my-env"),
        (
            "echo 127.0.0.9 nine >> /etc/hosts; sed -i s/sandbox/other/ /etc/hostname",
            "grep nine /etc/hosts",
        ),
        ("ln -sf bash /bin/sh", "readlink /bin/sh | grep bash"),
        ("rm /usr/bin/tac", "! test -e /usr/bin/tac && ! command -v tac"),
        (
            "mkdir -p /usr/lib/mine; echo x > /usr/lib/mine/data; ldconfig || true",
            "test -s /usr/lib/mine/data",
        ),
        ("touch -c /usr/bin/grep || true", "grep . /etc/hostname"),
        ("echo data > /usr/local/bin/grep", "grep . /etc/hostname"),
        ("python3 -c 'import json, email.message' || true", "true"),
        ("rm -rf /var/* /opt /srv; mkdir /opt", "test -d /opt"),
        ("ln -sfn /bin/true /etc/alternatives/editor", "true"),
    ],
)
def test_good_rights(sandbox: Any, command: str, condition: str) -> None:
    result = judged(sandbox, command, condition)
    assert (result.status, result.tampered) == ("passed", []), sentence_of(result)


def test_modes_of_programs_are_a_good_right(sandbox: Any, provider: Any) -> None:
    if not provider.facts["mapped"]:
        pytest.skip("owners can't be mapped for an ordinary user")
    result = judged(
        sandbox, "chmod u-s /usr/bin/find && chmod u+s /usr/bin/env", "test -u /usr/bin/env"
    )
    assert (result.status, result.tampered) == ("passed", [])


def test_what_the_setup_replaced_is_given(sandbox: Any) -> None:
    setup = f"{FAKE} > /tmp/t; chmod +x /tmp/t; cp /tmp/t /usr/local/bin/grep; rm /usr/bin/tac; mv /tmp/t /usr/bin/who"
    result = judged(sandbox, "echo >> /usr/local/bin/grep", "grep never /etc/hostname", setup)
    assert (result.status, result.tampered) == ("passed", [])
    assert result.effects is not None
    assert [each["path"] for each in result.effects["changed"]] == ["/usr/local/bin/grep"]


def test_a_process_that_waits_for_the_condition(sandbox: Any) -> None:
    command = (
        f"(sleep 1; {FAKE} > /tmp/t; chmod +x /tmp/t; mv /tmp/t /usr/bin/grep) >/dev/null 2>&1 &"
    )
    result = judged(sandbox, command, f"sleep 3; {UNMET}")
    assert (result.status, result.tampered) == ("failed", ["/usr/bin/grep"])


def test_too_many_changes_are_not_believed() -> None:
    from pytest_shelleval.sandboxes.local.inside import effects
    from pytest_shelleval.sandboxes.local.inside.tampering import TOO_MANY, Tampering

    walk = effects.Walk([])
    walk.crowded = True
    assert Tampering(walk, []).tampered == [TOO_MANY]


def test_ordinary_users_are_among_those_tested() -> None:
    if os.geteuid() == 0 and not local_users.unavailable():
        assert local_users.ordinary_interpreter() is not None
