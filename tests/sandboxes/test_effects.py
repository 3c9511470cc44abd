"""What a sandbox says of a command's doings: exact, as root and as an ordinary user."""

from __future__ import annotations

from typing import Any

import pytest

NOTHING: dict[str, Any] = {
    "created": [],
    "changed": [],
    "deleted": [],
    "more": {},
    "outside": 0,
    "processes": [],
    "network": {"unreachable": 0, "lookups": 0},
    "tampered": [],
    "removed": [],
    "partial": False,
}


def after(sandbox: Any, command: str, setup: str = "") -> dict[str, Any]:
    if setup:
        assert sandbox.exec(setup, timeout=30).exit_code == 0
        sandbox.mark()
    result = sandbox.exec_session(command, timeout=30)
    assert result.exit_code == 0, result.output
    effects = sandbox.effects()
    assert isinstance(effects, dict)
    return effects


def file(path: str, size: int, kind: str = "file") -> dict[str, Any]:
    return {"path": path, "kind": kind, "size": size}


def names(entries: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["path"], entry["kind"]) for entry in entries]


def test_nothing(sandbox: Any) -> None:
    assert sandbox.effects() == NOTHING
    sandbox.mark()
    assert sandbox.effects() == NOTHING
    assert after(sandbox, "ls -R / >/dev/null 2>&1; cat /etc/passwd >/dev/null") == NOTHING


def test_files(sandbox: Any) -> None:
    command = "echo hi > a; mkdir -p d/e; ln -s a l; mkfifo p; echo new > /etc/motd; rm /etc/skel/.bashrc /usr/bin/tac"
    effects = after(sandbox, command)
    assert effects["created"][0] == file("/home/shellm/a", 3)
    assert names(effects["created"]) == [
        ("/home/shellm/a", "file"),
        ("/home/shellm/d", "directory"),
        ("/home/shellm/d/e", "directory"),
        ("/home/shellm/l", "link"),
        ("/home/shellm/p", "pipe"),
    ]
    assert effects["changed"] == [file("/etc/motd", 4)]
    assert names(effects["deleted"]) == [("/etc/skel/.bashrc", "file"), ("/usr/bin/tac", "file")]
    assert (effects["outside"], effects["more"], effects["partial"]) == (3, {}, False)
    assert effects["removed"] == ["/usr/bin/tac"]


def test_files_of_the_setup(sandbox: Any) -> None:
    setup = (
        "echo 1 > same; echo 1 > edited; echo 1 > gone; mkdir dir; echo 1 > dir/inner; "
        "echo 1 > /etc/motd; rm /etc/skel/.profile; rm /etc/hosts; chmod 700 /srv"
    )
    command = "echo 22 > edited; rm -r gone dir /etc/motd; echo x > /etc/skel/.profile; echo > late"
    effects = after(sandbox, command, setup)
    assert effects["created"] == [file("/etc/skel/.profile", 2), file("/home/shellm/late", 1)]
    assert effects["changed"] == [file("/home/shellm/edited", 3)]
    assert names(effects["deleted"]) == [
        ("/etc/motd", "file"),
        ("/home/shellm/dir", "directory"),
        ("/home/shellm/dir/inner", "file"),
        ("/home/shellm/gone", "file"),
    ]


def test_modes_and_directories(sandbox: Any) -> None:
    effects = after(sandbox, "chmod 700 /srv; chmod 600 /etc/motd; mv /opt /opt2; touch -r / /mnt")
    assert names(effects["changed"]) == [("/etc/motd", "file"), ("/srv", "directory")]
    assert names(effects["created"]) == [("/opt2", "directory")]
    assert names(effects["deleted"]) == [("/opt", "directory")]


def test_directories_made_anew(sandbox: Any) -> None:
    effects = after(sandbox, "rm -r /etc/skel && mkdir /etc/skel && echo x > /etc/skel/.profile")
    assert [each["path"] for each in effects["changed"]] == ["/etc/skel/.profile"]
    deleted = [each["path"] for each in effects["deleted"]]
    assert "/etc/skel/.bashrc" in deleted
    assert "/etc/skel/.profile" not in deleted


def test_shared_memory_counts(sandbox: Any) -> None:
    assert after(sandbox, "echo x > /dev/shm/x")["created"] == [file("/dev/shm/x", 2)]


def test_strange_names(sandbox: Any) -> None:
    effects = after(sandbox, "touch $'a\\n\\xffb' 'é' ./-")
    assert [each["path"] for each in effects["created"]] == [
        "/home/shellm/-",
        "/home/shellm/a\n\\xffb",
        "/home/shellm/é",
    ]


def test_long_lists_are_cut_and_counted(sandbox: Any) -> None:
    effects = after(sandbox, "mkdir d; touch d/{1..120}; touch /tmp/{1..60}")
    assert len(effects["created"]) == 50
    assert effects["more"] == {"created": 131}
    assert effects["outside"] == 60


def test_very_deep_directories(sandbox: Any) -> None:
    command = "for i in {1..200}; do mkdir x && cd x; done; touch deepest"
    effects = after(sandbox, command)
    assert effects["partial"]
    assert len(effects["created"]) == 50
    assert effects["tampered"] == []


def test_files_that_were_only_opened(sandbox: Any) -> None:
    assert after(sandbox, "exec 3<>/etc/hosts; exec 3>&-; cd /; cd") == NOTHING


def test_processes_left_running(sandbox: Any) -> None:
    effects = after(sandbox, "sleep 500 & (exec -a odd sleep 501 &) ; sleep 0", "sleep 600 & true")
    assert effects["processes"] == ["sleep", "sleep"]
    assert effects["created"] == []


def test_a_session_that_ended(sandbox: Any) -> None:
    effects = after(sandbox, "echo x > y; exit 0")
    assert (effects["created"], effects["processes"]) == ([file("/home/shellm/y", 2)], [])


def test_network(sandbox: Any) -> None:
    python = "python3 -B -c 'import socket; {}' 2>/dev/null; true"
    if sandbox.exec("command -v python3", timeout=30).exit_code:
        pytest.skip("no python3 in the sandbox")
    assert after(sandbox, python.format('socket.create_connection(("192.0.2.1", 80))'))[
        "network"
    ] == {"unreachable": 1, "lookups": 0}
    sandbox.mark()
    network = after(sandbox, python.format('socket.gethostbyname("example.org")'))["network"]
    assert network["unreachable"] == 0
    assert network["lookups"] > 0
    sandbox.mark()
    loopback = (
        's = socket.create_server(("127.0.0.1", 80)); socket.create_connection(("localhost", 80))'
    )
    assert after(sandbox, python.format(loopback))["network"] == NOTHING["network"]
