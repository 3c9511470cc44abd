"""The contract of core.sandbox, kept by the local sandbox, as root and as an ordinary user."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.sandbox import ExecResult, Sandbox, SandboxProvider
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.probe import probe
from pytest_shelleval.sandboxes.local.provider import LocalProvider

LIMITS = Limits(memory=300 << 20, disk=32 << 20, processes=64, output=1 << 20)


def fresh(sandbox: Sandbox, text: str, **options: Any) -> ExecResult:
    options.setdefault("timeout", 30)
    return sandbox.exec(text, **options)


def typed(sandbox: Sandbox, text: str, timeout: float = 30) -> ExecResult:
    return sandbox.exec_session(text, timeout=timeout)


# --- what a sandbox is


def test_protocols_hold() -> None:
    provider: SandboxProvider = LocalProvider()
    assert provider.info == {"kind": "local", "rootfs": "host"}
    provider.close()
    provider.close()


def test_names_itself(sandbox: Sandbox) -> None:
    assert re.fullmatch(r"local-[0-9a-f]{8}", sandbox.id)
    assert sandbox.info == {"kind": "local", "rootfs": "host", "id": sandbox.id}


def test_root_at_home_with_a_fixed_environment(sandbox: Sandbox) -> None:
    expected = {
        "HOME=/home/shellm",
        "HOSTNAME=sandbox",
        "LANG=C.UTF-8",
        "LOGNAME=root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD=/home/shellm",
        "SHELL=/bin/bash",
        "TERM=xterm",
        "USER=root",
    }
    for run in (fresh, typed):
        lines = run(sandbox, "env; id -u; hostname; pwd; ls -A").output.splitlines()
        assert lines[-3:] == ["0", "sandbox", "/home/shellm"]
        own = {line for line in lines[:-3] if not line.startswith(("_=", "SHLVL=", "OLDPWD"))}
        assert own == expected


def test_sandboxes_share_nothing(provider: Any) -> None:
    one, other = provider.acquire(), provider.acquire()
    assert one.id != other.id
    assert fresh(one, "echo secret > /tmp/x; touch /usr/bin/new").exit_code == 0
    assert fresh(other, "test -e /tmp/x || test -e /usr/bin/new").exit_code == 1
    one.close()
    one.close()
    assert fresh(other, "echo alive").output == "alive\n"
    with pytest.raises(SandboxError):
        fresh(one, "true")
    other.close()


def test_providers_start_again_after_close() -> None:
    provider = LocalProvider(LIMITS)
    try:
        assert fresh(provider.acquire(), "true").exit_code == 0
        provider.close()
        assert fresh(provider.acquire(), "true").exit_code == 0
    finally:
        provider.close()


def test_a_dead_zygote_is_replaced() -> None:
    provider = LocalProvider(LIMITS)
    try:
        provider.acquire().close()
        zygote = provider._zygote
        assert zygote is not None
        zygote._process.kill()
        zygote._process.wait()
        for _ in range(3):
            sandbox = provider.acquire()
            assert fresh(sandbox, "echo here").output == "here\n"
    finally:
        provider.close()


def test_probe_runs_a_real_sandbox() -> None:
    report = probe()
    if not report.ok:
        pytest.skip(report.message)
    assert report.facts["id_count"] >= 1
    assert report.facts["seccomp"]


# --- standalone shells


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("true", 0),
        ("false", 1),
        ("exit 3", 3),
        ("exit 256", 0),
        ("kill -9 $$", 137),
        ("exec false", 1),
        ("set -e; false; true", 1),
        ("kill -TERM $$", 143),
        ("nosuch", 127),
    ],
)
def test_fresh_shells_report_their_status(sandbox: Sandbox, text: str, code: int) -> None:
    result = fresh(sandbox, text)
    assert result.exit_code == code
    assert not result.exited
    assert not result.timed_out


def test_fresh_shells_keep_nothing(sandbox: Sandbox) -> None:
    fresh(sandbox, "cd /tmp; x=1; export y=2")
    assert fresh(sandbox, "echo $PWD $x $y").output == "/home/shellm\n"


def test_fresh_shells_start_where_they_are_told(sandbox: Sandbox) -> None:
    assert fresh(sandbox, "pwd", cwd="/etc").output == "/etc\n"
    assert fresh(sandbox, "pwd", cwd="/no/such").output == "/home/shellm\n"


def test_messages_name_bash(sandbox: Sandbox) -> None:
    assert fresh(sandbox, "nosuch").output == "bash: line 1: nosuch: command not found\n"
    assert re.fullmatch(
        r"bash: line \d+: nosuch: command not found\n", typed(sandbox, "nosuch").output
    )


# --- the session


def test_session_keeps_its_state(sandbox: Sandbox) -> None:
    typed(sandbox, "cd /tmp; x='a  b'; f() { echo \"f:$1\"; }; shopt -s extglob; set -o pipefail")
    result = typed(sandbox, 'pwd; echo "$x"; f 1; false | true')
    assert result == ExecResult("/tmp\na  b\nf:1\n", 1, duration=result.duration)
    assert sandbox.session_directory() == "/tmp"


def test_session_starts_without_pipefail_and_history_expansion(sandbox: Sandbox) -> None:
    assert typed(sandbox, "false | true").exit_code == 0
    assert typed(sandbox, 'echo "a!b" !x').output == "a!b !x\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("exit 3", 3),
        ("exec true", 0),
        ("exec false", 1),
        ("set -e; false; echo no", 1),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("f() { exit 5; }; f", 5),
        ("exit", 0),
        ("set -u; echo $nope; echo no", 1),
        ("trap 'exit 9' EXIT; exit 1", 9),
    ],
)
def test_session_that_ends_says_so(sandbox: Sandbox, text: str, code: int) -> None:
    result = typed(sandbox, text)
    assert (result.exit_code, result.exited) == (code, True)
    with pytest.raises(SandboxError):
        typed(sandbox, "true")
    assert fresh(sandbox, "echo still").output == "still\n"


def test_directory_of_a_session_that_ended(sandbox: Sandbox) -> None:
    typed(sandbox, "mkdir -p /srv/deep")
    result = typed(sandbox, "cd /srv/deep && echo there && exit 4")
    assert (result.exit_code, result.output, result.exited) == (4, "there\n", True)
    assert sandbox.session_directory() == "/srv/deep"


def test_directory_that_was_removed(sandbox: Sandbox) -> None:
    typed(sandbox, "mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone")
    directory = sandbox.session_directory()
    assert fresh(sandbox, "pwd", cwd=directory).output == "/home/shellm\n"


def test_directory_with_a_strange_name(sandbox: Sandbox) -> None:
    typed(sandbox, r"d=$'/tmp/a b\n\xff\'é'; mkdir \"$d\"; cd \"$d\"".replace('\\"', '"'))
    result = fresh(sandbox, "pwd | od -c | head -1", cwd=sandbox.session_directory())
    assert "/   t   m   p   /   a" in result.output
    assert "377" in result.output


def test_a_stopped_session_goes_on(sandbox: Sandbox) -> None:
    assert typed(sandbox, "kill -STOP $$; echo on").output == "on\n"


def test_session_survives_odd_settings(sandbox: Sandbox) -> None:
    typed(sandbox, "set -u; set -f; IFS=0123456789; set -C; exec 3>/tmp/three")
    assert typed(sandbox, "false").exit_code == 1
    typed(sandbox, "eval() { :; }; printf() { :; }; trap 'echo dbg' DEBUG; set -x")
    result = typed(sandbox, "(exit 7)")
    assert result.exit_code == 7
    assert typed(sandbox, "set -o posix; exec 1>&2").exit_code == 0
    assert typed(sandbox, "(exit 8)").exit_code == 8


def test_session_survives_a_lower_limit_on_open_files(sandbox: Sandbox) -> None:
    assert typed(sandbox, "ulimit -n 50; ulimit -n").output == "50\n"
    assert typed(sandbox, "(exit 6)").exit_code == 6


# --- texts of all kinds, in both kinds of shell

RUNS = pytest.mark.parametrize("run", [fresh, typed])


@RUNS
@pytest.mark.parametrize(
    ("text", "output", "code"),
    [
        ("cat <<EOF\none\n$((1+1))\nEOF", "one\n2\n", 0),
        ("cat <<'EOF'\n$HOME `x` \"q\" 'q'\nEOF\necho after", "$HOME `x` \"q\" 'q'\nafter\n", 0),
        ("echo a # comment", "a\n", 0),
        ("# only a comment", "", 0),
        ("", "", 0),
        ("\n\n", "", 0),
        ("echo a\n\n\necho b\n", "a\nb\n", 0),
        ("for i in 1 2\ndo\necho $i\ndone", "1\n2\n", 0),
        ("echo 'it'\"'\"'s' \\\\ \\'", "it's \\ '\n", 0),
        ("echo a\\\nb", "ab\n", 0),
        ("printf '\\t%s\\r\\n' x", "\tx\r\n", 0),
        ("printf '\\xe2\\x82'", "\\xe2\\x82", 0),
        ("printf 'a\\0b'", "a\0b", 0),
        ("echo a\0b", "ab\n", 0),
        ("echo é ☃ 🐚", "é ☃ 🐚\n", 0),
        ("echo out; echo err >&2; echo out", "out\nerr\nout\n", 0),
        ('cat; read x; echo "[$x]"; wc -c', "[]\n0\n", 0),
        ("printf '\\033[31m\\007'", "\033[31m\007", 0),
        ("yes | head -2", "y\ny\n", 0),
    ],
)
def test_texts(sandbox: Sandbox, run: Any, text: str, output: str, code: int) -> None:
    result = run(sandbox, text)
    assert (result.output, result.exit_code, result.exited) == (output, code, False)


@RUNS
@pytest.mark.parametrize("text", ["echo 'open", 'echo "open', "if true; then", "echo )", "cat <(("])
def test_broken_texts_fail_and_end(sandbox: Sandbox, run: Any, text: str) -> None:
    result = run(sandbox, text)
    assert result.exit_code in (1, 2)
    assert "bash:" in result.output
    assert not result.exited
    assert run(sandbox, "echo next").output == "next\n"


@RUNS
def test_unterminated_heredoc(sandbox: Sandbox, run: Any) -> None:
    result = run(sandbox, "cat <<EOF\nbody")
    assert result.exit_code == 0
    assert "body\n" in result.output
    assert run(sandbox, "echo next").output == "next\n"


@RUNS
def test_windows_line_ends_do_not_hang(sandbox: Sandbox, run: Any) -> None:
    result = run(sandbox, "echo one\r\necho two\r\n")
    assert result.output == "one\r\ntwo\r\n"


@RUNS
def test_many_lines(sandbox: Sandbox, run: Any) -> None:
    result = run(sandbox, "\n".join(f"echo {number}" for number in range(500)))
    assert result.output.split() == [str(number) for number in range(500)]


@RUNS
@pytest.mark.parametrize("size", [1_999, 2_001, 65_536, 99_999, 100_001, 140_000, 1_000_000])
def test_long_texts(sandbox: Sandbox, run: Any, size: int) -> None:
    # Quotes, so that they are not taken for the end of the text; characters of two bytes.
    quotes = "é\n'\\''x" * (min(size, 10_000) // 7)
    filler = "y" * (size - len(quotes.encode()))
    result = run(sandbox, f"x='{quotes}{filler}'\n[ ${{#x}} -gt 1 ] && echo ${{#x}}")
    assert result.output.strip() == str(4 * (min(size, 10_000) // 7) + len(filler))


@RUNS
def test_endless_output_is_cut(sandbox: Sandbox, run: Any) -> None:
    result = run(sandbox, "echo first; head -c 100M /dev/zero | tr '\\0' x; echo; false")
    assert result.truncated
    assert result.exit_code == 1
    assert len(result.output) == LIMITS.output
    assert result.output.startswith("first\nxxx")
    assert not run(sandbox, "echo short").truncated


@RUNS
def test_background_processes_are_left_running(sandbox: Sandbox, run: Any) -> None:
    result = run(sandbox, "sleep 1000 & echo $! > /tmp/pid; echo started")
    assert result.output == "started\n"
    assert result.duration < 20
    assert fresh(sandbox, "kill -0 $(cat /tmp/pid)").exit_code == 0


@RUNS
def test_a_trailing_ampersand(sandbox: Sandbox, run: Any) -> None:
    assert run(sandbox, "sleep 1000 &").exit_code == 0
    assert run(sandbox, "echo next").output == "next\n"


@RUNS
def test_output_that_comes_a_little_late(sandbox: Sandbox, run: Any) -> None:
    assert run(sandbox, "echo a > >(cat)").output == "a\n"


@RUNS
def test_no_descriptors_are_inherited(sandbox: Sandbox, run: Any) -> None:
    assert run(sandbox, "ls /proc/self/fd").output.split() == ["0", "1", "2", "3"]
    assert run(sandbox, "readlink /proc/self/fd/0").output == "/dev/null\n"


# --- time


def test_session_past_its_time(sandbox: Sandbox) -> None:
    typed(sandbox, "cd /tmp")
    result = typed(sandbox, "cd /srv; echo before; sleep 1000", timeout=0.5)
    assert (result.timed_out, result.exit_code, result.output) == (True, None, "before\n")
    assert sandbox.session_directory() == "/srv"
    with pytest.raises(SandboxError):
        typed(sandbox, "true")
    assert fresh(sandbox, "echo alive; pgrep sleep").output == "alive\n"


def test_fresh_shell_past_its_time(sandbox: Sandbox) -> None:
    result = fresh(sandbox, "trap '' TERM INT HUP; while :; do :; done", timeout=0.5)
    assert (result.timed_out, result.exit_code) == (True, None)
    assert fresh(sandbox, "echo alive").output == "alive\n"


# --- limits


@RUNS
def test_memory(sandbox: Sandbox, run: Any) -> None:
    hog = "python3 -c \"import time; x = [b'x' * (1 << 20) for _ in range(400)]; time.sleep(9)\""
    result = run(sandbox, hog)
    assert (result.exit_code, result.limit) == (137, "memory")
    assert fresh(sandbox, "echo alive").output == "alive\n"


@RUNS
def test_disk(sandbox: Sandbox, run: Any) -> None:
    result = run(sandbox, "head -c 100M /dev/zero > /tmp/full")
    assert result.exit_code == 1
    assert result.limit == "disk"
    assert "No space left" in result.output


CROWD = """
import os, sys, time
reading, writing = os.pipe()
children = 0
try:
    while os.fork():
        children += 1
except BlockingIOError:
    # a look is due after 0.05 s, and comes before all of this is read
    time.sleep(0.06)
    print("x" * 500_000)
    os.close(writing)
    while children:
        children -= os.wait()[0] > 0
    sys.exit(1)
os.close(writing)
os.read(reading, 1)  # the end of the first process
"""


def test_processes(sandbox: Sandbox) -> None:
    result = fresh(sandbox, f"python3 -c '{CROWD}'", timeout=600)
    assert (result.exit_code, result.limit) == (1, "processes")
    assert fresh(sandbox, "echo alive").output == "alive\n"


# --- the root file system


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/testbed",
        "/usr/local/bin",
        "/usr/bin",
        "/usr/lib",
        "/etc",
        "/opt",
        "/var/log",
        "/root",
        "/home/user",
        "/dev/shm",
        "/srv",
        "/run",
        "/usr/local/lib",
        "/usr/share/man",
    ],
)
def test_writable_everywhere(sandbox: Sandbox, path: str) -> None:
    text = (
        f"mkdir -p {path} && cd {path} && echo x > new && cat new && rm new && mkdir d && rmdir d"
    )
    assert fresh(sandbox, text).output == "x\n"


def test_files_of_the_system_can_be_replaced(sandbox: Sandbox) -> None:
    result = fresh(
        sandbox, "rm /usr/bin/tac && ! command -v tac && cp /bin/echo /usr/bin/tac && tac 1"
    )
    assert (result.output, result.exit_code) == ("1\n", 0)
    result = fresh(sandbox, "rm -rf /etc/skel /srv && mkdir /etc/skel /srv && ls -A /etc/skel /srv")
    assert result.exit_code == 0


def test_system_files_belong_to_root_where_ids_are_mapped(sandbox: Sandbox, provider: Any) -> None:
    if not provider.facts["mapped"]:
        pytest.skip("owners can't be mapped for an ordinary user")
    result = fresh(sandbox, "chmod u+s /usr/bin/find && stat -c '%U %A' /usr/bin/find")
    assert result.output == "root -rwsr-xr-x\n"


def test_accounts(sandbox: Sandbox, many_ids: bool) -> None:
    if not many_ids:
        pytest.skip("only one id is mapped for an ordinary user without newuidmap")
    text = """
    set -e
    groupadd team
    useradd -m -s /bin/bash -G team alice
    echo 'alice:secret' | chpasswd
    id -nG alice
    su - alice -c 'id -un; pwd; echo mine > ~/f; cat /root/x'  || echo denied
    runuser -l alice -c 'id -un'
    su alice -c 'echo secret | su alice -c whoami'
    chown alice:team /tmp; chmod 640 /etc/motd; chgrp team /etc/motd
    stat -c %G /etc/motd
    userdel alice
    """
    lines = fresh(sandbox, text).output.splitlines()
    assert lines[0] == "alice team"
    assert "denied" in lines
    assert lines[1:3] == ["alice", "/home/alice"]
    assert lines[-1] == "team"


def test_common_tools_start(sandbox: Sandbox) -> None:
    text = "; ".join(
        f"! command -v {tool} >/dev/null || {tool} >/dev/null 2>&1 || echo {tool} fails"
        for tool in (
            "git --version",
            "python3 -c 1",
            "perl -e 1",
            "make --version",
            "gcc --version",
        )
    )
    assert fresh(sandbox, text.replace("command -v git --version", "command -v git")).output == ""


def test_devices(sandbox: Sandbox) -> None:
    text = (
        "head -c 4 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/null; "
        "echo y > /dev/full; echo z > /dev/stderr; ls /dev | wc -l; "
        "python3 -c 'import pty; pty.openpty(); print(1)'"
    )
    lines = fresh(sandbox, text).output.splitlines()
    assert lines[:2] == ["4", "3"]
    assert lines[3] == "z"
    assert lines[-1] == "1"


# --- the network


def test_loopback_only(sandbox: Sandbox) -> None:
    text = """
    cat /proc/net/dev | grep -c :
    python3 - <<'PY'
import socket, threading
server = socket.create_server(("127.0.0.1", 80))
client = socket.create_connection(("localhost", 80))
print("loop")
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    print(error.strerror)
PY
    """
    assert fresh(sandbox, text).output.split("\n")[:3] == ["1", "loop", "Network is unreachable"]
