"""Common tools do in a sandbox what they do in a container, or say why not."""

from __future__ import annotations

import os
from typing import Any

import pytest


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


def test_crontab(sandbox: Any, many_ids: bool) -> None:
    need(sandbox, "crontab")
    if not many_ids:
        pytest.skip("crontab changes its group")
    text = "echo '* * * * * true' | crontab - && crontab -l"
    assert run(sandbox, text)[1].endswith("* * * * * true\n")
