"""Common tools do in a sandbox what they do in a container, or say why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from local_users import make_provider

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import Limits


def run(sandbox: Any, text: str) -> tuple[int, str]:
    result = sandbox.exec(text, timeout=30)
    return result.exit_code, result.output


def need(sandbox: Any, *tools: str) -> None:
    for tool in tools:
        if run(sandbox, f"command -v {tool}")[0]:
            pytest.skip(f"no {tool} here")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("hostname; uname -n", "sandbox\nsandbox\n"),
        ("id -u; id -g; whoami", "0\n0\nroot\n"),
        ("tty", "not a tty\n"),
        ("date +%Z", "UTC\n"),
        ("locale | head -1", "LANG=C.UTF-8\n"),
        ("nproc", f"{len(os.sched_getaffinity(0))}\n"),
        ("sleep 100 & kill $!; wait $!; echo $?", "143\n"),
        ("ln -s /bin/echo /usr/local/bin/say && say hi", "hi\n"),
        ("rm /usr/bin/tac; command -v tac; hash -r; ls /usr/bin/tac 2>/dev/null", ""),
        ("echo x > f; chmod 4750 f; stat -c %A f", "-rwsr-x---\n"),
        ("echo x > f; chown root:root f && stat -c %U:%G f", "root:root\n"),
        ("ps -o comm= -p 1", "init\n"),
        ("df --output=target / | tail -1", "/\n"),
        ("stat -c '%U %G %a' /etc /etc/passwd /tmp /root | tr '\\n' ,", None),
        ("lscpu | grep -c '^CPU(s):'", "1\n"),
        ("free | grep -c Mem", "1\n"),
    ],
)
def test_tools(sandbox: Any, text: str, output: str | None) -> None:
    need(sandbox, text.split()[0].rstrip(";"), *(("ps",) if text.startswith("ps") else ()))
    expected = (
        "root root 755,root root 644,root root 1777,root root 700," if output is None else output
    )
    assert run(sandbox, text)[1] == expected


def test_mounts_are_refused_with_a_reason(sandbox: Any) -> None:
    need(sandbox, "mount")
    code, output = run(sandbox, "mount --bind /tmp /mnt")
    assert code != 0
    assert "permission denied" in output.lower()


def test_names_that_do_not_resolve_are_said_as_without_a_network(sandbox: Any) -> None:
    need(sandbox, "python3")
    text = "python3 -c 'import socket; socket.gethostbyname(\"example.org\")' 2>&1 | tail -1"
    assert "Temporary failure in name resolution" in run(sandbox, text)[1]


def test_other_users(sandbox: Any, many_ids: bool) -> None:
    if not many_ids:
        pytest.skip("only one id is mapped for an ordinary user without newuidmap")
    need(sandbox, "useradd", "su")
    text = "useradd -m bob && su - bob -c 'id -un; touch mine; stat -c %U mine' && chown bob:bob /srv && stat -c %U /srv"
    assert run(sandbox, text) == (0, "bob\nbob\nbob\n")


@pytest.mark.parametrize(
    "text",
    [
        "chmod 700 /usr/bin/cut && stat -c %a /usr/bin/cut && cut --version",
        "cd /usr/bin && chown root:root env && stat -c %U:%G env",
        "echo '# end' >>/usr/bin/env && tail -c 6 /usr/bin/env",
        "mv /usr/bin/cut /usr/bin/cutter && echo a:b | cutter -d: -f2",
        "touch -d 2001-02-03 /usr/bin/env && date -r /usr/bin/env +%Y && env true",
        "truncate -s 3 /usr/bin/env && stat -c %s /usr/bin/env",
        "f=$(ls /usr/share/doc/*/copyright | head -1); rm $f && ! ls $f",
        "cp -a /usr/bin/env ~/e && stat -c %U:%G ~/e && ./e true",
        "tar cf a.tar -C /usr/bin env cut && tar xpf a.tar && stat -c %U cut env",
    ],
)
def test_programs_of_the_system_can_be_changed(sandbox: Any, text: str) -> None:
    code, output = run(sandbox, text)
    assert code == 0, output


def test_what_one_id_can_not_do_is_told_from_what_fails(sandbox: Any, many_ids: bool) -> None:
    need(sandbox, "setpriv")
    for text in (
        "touch f; chown daemon f && stat -c %U f",
        "chgrp adm ~ && stat -c %G ~",
        "setpriv --reuid 1 --clear-groups id -un",
        "python3 -c 'import os; os.setresgid(4, 4, 4)'",
        "cd ~; chown -R daemon:adm . && :",
    ):
        for made in (
            sandbox.exec(text, timeout=20),
            sandbox.exec_session(f"({text})", timeout=20),
        ):
            assert (made.exit_code == 0) == many_ids, text
            assert made.missing_capability == (None if many_ids else "ids"), text
    for text in ("false", "chown root: f", "su -c true", "chmod 1777 f", "python3 -c 1 >g"):
        assert sandbox.exec(text, timeout=20).missing_capability is None


def test_a_failure_for_want_of_ids_is_an_error(provider: Any, many_ids: bool) -> None:
    row = {"task": "t", "setup_commands": ["touch f"], "success_condition": "stat -c %U f | grep n"}
    task = Task(task_id="t", **row)  # type: ignore[arg-type]
    for text, passes in (("chown daemon f", many_ids), ("true", False)):
        command = Command(task_id="t", generated_command=text, timestamp="", **row)  # type: ignore[arg-type]
        execution = Execution(task, command, provider, ExecutionPolicy())
        if passes or text == "true":
            assert execution.run().status == ("passed" if passes else "failed")
        else:
            with pytest.raises(SandboxUnavailable, match="install uidmap"):
                execution.run()
            assert (execution.result.status, execution.result.attempt) == ("error", 1)
            assert execution.result.error_kind == "sandbox"
        execution.release()


def test_subordinate_ids(tmp_path: Path) -> None:
    made = make_provider("subordinate", Limits(), files=tmp_path)
    sandbox = made.acquire()
    need(sandbox, "useradd", "su")
    assert made.facts["ids"] == "subuid"
    text = (
        "useradd -m bob && su - bob -c 'touch mine; stat -c %U mine' && chown bob:daemon /srv && "
        "stat -c %U:%G /srv && chmod 700 /usr/bin/env && mv /usr/bin/cut /usr/bin/cutter && echo well"
    )
    assert run(sandbox, text) == (0, "bob\nbob:daemon\nwell\n")
    assert sandbox.exec("chown bob /srv", timeout=20).missing_capability is None
    made.close()


def test_crontab(sandbox: Any, many_ids: bool) -> None:
    need(sandbox, "crontab")
    if not many_ids:
        pytest.skip("crontab changes its group")
    text = "echo '* * * * * true' | crontab - && crontab -l"
    assert run(sandbox, text)[1].endswith("* * * * * true\n")
