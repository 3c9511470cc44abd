"""What commands must not be able to do: each attack fails, its task ends with a result, nothing is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_users
import pytest

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.sandbox import ExecResult, Sandbox
from pytest_shelleval.sandboxes.base import Limits

LIMITS = Limits(memory=300 << 20, disk=32 << 20, processes=64, output=1 << 20)
SECRET = f"secret{secrets.token_hex(8)}"
MACHINE = os.uname().machine


@pytest.fixture(scope="module", autouse=True)
def key_in_the_environment() -> Iterator[None]:
    """Before the provider starts."""
    os.environ["OPENAI_API_KEY"] = SECRET
    yield
    del os.environ["OPENAI_API_KEY"]


def fresh(sandbox: Sandbox, text: str, timeout: float = 30) -> ExecResult:
    return sandbox.exec(textwrap.dedent(text), timeout=timeout)


def python(sandbox: Sandbox, code: str, timeout: float = 30) -> ExecResult:
    if fresh(sandbox, "command -v python3").exit_code:
        pytest.skip("no python3 in the sandbox")
    return fresh(sandbox, f"python3 - <<'PYTHON'\n{textwrap.dedent(code)}\nPYTHON\n", timeout)


def alive(sandbox: Sandbox) -> bool:
    return fresh(sandbox, "echo alive").output == "alive\n"


# --- reading


def test_accounts_of_the_host(sandbox: Sandbox) -> None:
    text = fresh(sandbox, "cat /etc/shadow /etc/passwd /etc/shadow- /etc/group").output
    shown = {line.split(":")[0] for line in text.splitlines() if ":" in line}
    own = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
    standard = "root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc"
    standard += " _apt nobody"
    groups = {line.split(":")[0] for line in Path("/etc/group").read_text().splitlines()}
    assert not (own - groups - set(standard.split())) & shown
    assert "$" not in "".join(line for line in text.splitlines() if line.startswith("root:"))


def test_folders_of_the_host(sandbox: Sandbox) -> None:
    result = fresh(
        sandbox, "ls -A /root /home /home/shellm /tmp /var/tmp /opt /srv /mnt /media /run"
    )
    listed = [line for line in result.output.splitlines() if line and not line.startswith("/")]
    assert listed == ["shellm", "lock"] or sorted(listed) == ["lock", "shellm"]
    # How many processors there are is told; nothing else.
    assert fresh(sandbox, "find /sys -type f | grep -v ^/sys/devices/system/cpu/").output == ""
    project = Path(local_users.ROOT)
    assert fresh(sandbox, f"ls {project}").exit_code != 0


def test_files_of_the_host(sandbox: Sandbox, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    planted.write_text(SECRET)
    planted.chmod(0o644)
    assert fresh(sandbox, f"cat {planted}").exit_code != 0
    text = """
    import os
    for number in range(3, 300):
        for way in ("..", "../..", "../../../../../.."):
            try:
                inside = os.listdir(f"/proc/self/fd/{number}/{way}")
            except OSError:
                continue
            print(number, inside)
    print(sorted(os.listdir("/..")) == sorted(os.listdir("/")))
    """
    assert python(sandbox, text).output.splitlines()[-1] == "True"
    out = fresh(sandbox, f"cd /proc/1/root{tmp_path}; cat {planted}; cd /proc/1/cwd && ls").output
    assert SECRET not in out


def test_secrets_in_the_environment(sandbox: Sandbox) -> None:
    text = "env; cat /proc/*/environ /proc/*/task/*/environ /proc/*/cmdline | tr '\\0' '\\n'"
    for run in (sandbox.exec, sandbox.exec_session):
        output = run(text, timeout=20).output
        assert SECRET not in output
        assert "OPENAI" not in output
        assert local_users.ROOT not in output
        assert sys.executable not in output


def test_root_only_files_outside_the_packages(sandbox: Sandbox) -> None:
    if os.geteuid() != 0 or not os.path.isdir("/usr/local/share"):
        pytest.skip("needs root of the host and /usr/local/share")
    planted = Path("/usr/local/share") / f"shelleval-{secrets.token_hex(4)}"
    planted.mkdir(mode=0o700)
    try:
        (planted / "key").write_text(SECRET)
        (planted / "key").chmod(0o600)
        result = fresh(
            sandbox, f"cat {planted}/key; ls {planted}; cp -r {planted} /tmp/x; cat /tmp/x/*"
        )
        assert SECRET not in result.output
        assert result.exit_code != 0
    finally:
        (planted / "key").unlink()
        planted.rmdir()


def test_processes_of_the_host(sandbox: Sandbox) -> None:
    output = fresh(sandbox, f"ls /proc | grep -E '^[0-9]+$' | wc -l; kill -0 {os.getpid()}")
    assert int(output.output.split()[0]) < 10
    assert output.exit_code != 0


def test_host_name_and_mounts(sandbox: Sandbox, tmp_path: Path) -> None:
    output = fresh(sandbox, "hostname; uname -n; cat /proc/self/mountinfo /proc/self/cgroup").output
    assert output.startswith("sandbox\nsandbox\n")
    assert str(tmp_path) not in output
    assert local_users.ROOT not in output


def test_sockets_of_the_host(sandbox: Sandbox) -> None:
    abstract = f"shelleval-{secrets.token_hex(4)}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0{abstract}")
        local.listen()
        result = python(
            sandbox,
            f"""
            import os, socket
            for family, address in (
                (socket.AF_INET, ("127.0.0.1", {server.getsockname()[1]})),
                (socket.AF_UNIX, "\\0{abstract}"),
                (socket.AF_UNIX, "/var/run/docker.sock"),
                (socket.AF_UNIX, "/run/docker.sock"),
                (socket.AF_INET, ("192.0.2.1", 80)),
                (socket.AF_INET, ("169.254.169.254", 80)),
            ):
                with socket.socket(family) as client:
                    client.settimeout(5)
                    print(client.connect_ex(address) != 0)
            try:
                socket.getaddrinfo("example.org", 80)
            except OSError:
                print(True)
            for family in (17, 38, 40, 21, 31):  # packet, alg, vsock, rds, bluetooth
                try:
                    socket.socket(family, socket.SOCK_STREAM)
                except OSError:
                    print(True)
            """,
        )
    assert result.output.split() == ["True"] * 12
    assert alive(sandbox)


def test_kernel_log(sandbox: Sandbox) -> None:
    assert fresh(sandbox, "dmesg").exit_code != 0
    assert fresh(sandbox, "cat /proc/cmdline").output == ""
    for file in ("kmsg", "kcore", "timer_list", "sysrq-trigger"):
        assert fresh(sandbox, f"head -c 1 /proc/{file}").exit_code != 0, file


# --- writing


@pytest.mark.parametrize(
    "path",
    [
        "kernel/core_pattern",
        "kernel/hostname",
        "vm/drop_caches",
        "kernel/sysrq",
        "fs/file-max",
        "net/ipv4/ip_forward",
        "user/max_user_namespaces",
        "kernel/modprobe",
        "kernel/pid_max",
    ],
)
def test_settings_of_the_kernel(sandbox: Sandbox, path: str) -> None:
    file = Path("/proc/sys") / path
    with contextlib.suppress(OSError):
        before = file.read_text()
        new = "1" if before.strip() == "0" else "9999"
        fresh(sandbox, f"echo {new} > {file}; sysctl -w {path.replace('/', '.')}={new}")
        assert file.read_text() == before
    assert alive(sandbox)


def test_triggers_of_the_kernel(sandbox: Sandbox) -> None:
    text = (
        "echo x > /proc/sysrq-trigger; mount -o remount,rw /dev; touch /dev/x; mknod /dev/x c 1 1"
    )
    result = fresh(sandbox, text)
    assert result.exit_code != 0
    assert not Path("/dev/x").exists()
    assert fresh(sandbox, "mknod /tmp/kmem c 1 1 && head -c 1 /tmp/kmem").exit_code != 0
    assert fresh(sandbox, "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk").exit_code != 0


def test_programs_of_the_host(sandbox: Sandbox) -> None:
    before = _kind("/usr/bin/env"), _kind("/usr/bin")
    fresh(sandbox, "echo bad > /usr/bin/env; rm /usr/bin/env; chmod 0 /usr/bin; touch /usr/bin/bad")
    assert (_kind("/usr/bin/env"), _kind("/usr/bin")) == before
    assert not os.path.exists("/usr/bin/bad")


def _kind(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mode, status.st_uid


# --- destroying


def test_remove_everything(sandbox: Sandbox) -> None:
    before = set(os.listdir("/usr/bin"))
    result = sandbox.exec("rm -rf / --no-preserve-root 2>/dev/null; echo over", timeout=60)
    assert result.output.endswith("over\n")
    gone = fresh(sandbox, "true")
    assert gone.exit_code == 127
    assert "bash" in gone.output
    assert before <= set(os.listdir("/usr/bin"))


def test_remove_everything_in_the_session(sandbox: Sandbox) -> None:
    assert (
        sandbox.exec_session("rm -rf /bin/* /etc /home /tmp /var; true", timeout=60).exit_code == 0
    )
    assert fresh(sandbox, "true").exit_code == 127
    assert sandbox.exec_session("echo here", timeout=9).output == "here\n"


def test_kill_everything(sandbox: Sandbox) -> None:
    result = fresh(sandbox, "kill -9 -1; echo here")
    assert result.exit_code in (0, 137)
    with contextlib.suppress(SandboxError):  # its end may be noted a moment later
        assert sandbox.exec_session("true", timeout=9).exited
    with pytest.raises(SandboxError):
        sandbox.exec_session("true", timeout=9)
    assert (
        fresh(sandbox, "kill -9 1; kill -INT 1; kill -TERM 1; kill -CHLD 1; echo $?").exit_code == 0
    )
    assert alive(sandbox)


def test_kill_everything_from_the_session(sandbox: Sandbox) -> None:
    result = sandbox.exec_session("kill -9 -1; kill -9 $$", timeout=20)
    assert (result.exit_code, result.exited) == (137, True)
    assert alive(sandbox)


def test_stop_everything(sandbox: Sandbox) -> None:
    result = sandbox.exec_session("sleep 100 & kill -STOP -1; echo on", timeout=20)
    assert result.output == "on\n"
    assert alive(sandbox)


@pytest.mark.parametrize("run", ["exec", "exec_session"])
def test_fork_bomb(sandbox: Sandbox, run: str) -> None:
    result = getattr(sandbox, run)("f() { f | f & }; f; sleep 2; exit 3", timeout=3)
    assert result.timed_out or result.exit_code not in (0, None)
    assert sandbox.exec("[ 1 = 1 ]", timeout=20).exit_code == 0


def test_fork_bomb_of_many_users(sandbox: Sandbox, many_ids: bool) -> None:
    if not many_ids:
        pytest.skip("one id only")
    result = python(
        sandbox,
        """
        import os, time
        for user in range(1000, 1400):
            try:
                child = os.fork()
            except OSError:
                print("stopped", flush=True)
                break
            if not child:
                os.setuid(user)
                time.sleep(10_000)
        """,
        timeout=600,
    )
    assert result.output == "stopped\n"
    assert alive(sandbox)


def test_disk(sandbox: Sandbox) -> None:
    for folder in ("/tmp", "/dev/shm", "/usr/local/bin", "/etc"):
        result = fresh(
            sandbox, f"cat /dev/zero > {folder}/full; s=$?; stat -c %s {folder}/full; exit $s"
        )
        assert result.exit_code != 0
        assert int(result.output.split()[-1]) <= LIMITS.disk
        assert result.limit == "disk"
        fresh(sandbox, f"rm {folder}/full")
    assert alive(sandbox)


def test_inodes(sandbox: Sandbox) -> None:
    result = python(
        sandbox,
        """
        for number in range(1_000_000):
            open(f"/tmp/{number}", "w").close()
        """,
    )
    assert result.exit_code == 1
    assert result.limit == "disk"
    assert alive(sandbox)


@pytest.mark.parametrize("count", [1, 4])
def test_memory(sandbox: Sandbox, count: int) -> None:
    hog = "python3 -c 'x = [bytes([1]) * (1 << 20) for _ in range(1000)]; input()'"
    text = f"for i in $(seq {count}); do {hog} & done; wait; sleep 20"
    result = fresh(sandbox, text)
    assert (result.exit_code, result.limit) == (137, "memory")
    assert alive(sandbox)


def test_memory_that_no_process_has(sandbox: Sandbox) -> None:
    result = python(
        sandbox,
        """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.shmget(0, ctypes.c_size_t(100 << 20), 0o1600))
        print(libc.memfd_create(b"x", 0))
        """,
    )
    assert result.output.split() == ["-1", "-1"]


def test_memory_that_is_shared(sandbox: Sandbox) -> None:
    hog = """
        import mmap, time
        shared = mmap.mmap(-1, 400 << 20)
        for start in range(0, len(shared), 4096):
            shared[start] = 1
        time.sleep(20)
        """
    result = python(sandbox, hog)
    assert (result.exit_code, result.limit) == (137, "memory")
    assert alive(sandbox)


def test_memory_of_what_is_left_behind(sandbox: Sandbox) -> None:
    hog = "import time; time.sleep(1); x = [bytes([1]) * (1 << 20) for _ in range(400)]; time.sleep(99)"
    assert fresh(sandbox, f'python3 -c "{hog}" >/dev/null 2>&1 &').exit_code == 0
    assert fresh(sandbox, "pgrep python3").exit_code == 0
    deadline = time.monotonic() + 20
    while fresh(sandbox, "pgrep python3").exit_code == 0 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert fresh(sandbox, "pgrep python3").exit_code == 1


def test_output_without_end(sandbox: Sandbox) -> None:
    result = fresh(sandbox, "yes", timeout=1)
    assert result.timed_out
    assert result.truncated
    assert len(result.output) == LIMITS.output
    result = fresh(sandbox, "yes & sleep 0.3")
    assert result.exit_code == 0
    assert alive(sandbox)


def test_reading_for_ever(sandbox: Sandbox) -> None:
    assert fresh(sandbox, "cat; cat /dev/stdin; read x; exit 4").exit_code == 4
    assert fresh(sandbox, "cat /dev/tty; cat < /dev/console").exit_code != 0


def test_children_that_outlive_their_task(provider: Any) -> None:
    sandbox = provider.acquire()
    text = (
        "setsid nohup sh -c 'trap \"\" TERM HUP; sleep 1000; sleep 1000' >/dev/null 2>&1 & echo ok"
    )
    result = fresh(sandbox, text)
    assert result.output == "ok\n"
    sandbox.close()
    gone = (
        sandbox.gone()
        if isinstance(sandbox, local_users.RemoteSandbox)
        else _ended(sandbox.process)
    )
    assert gone


def _ended(process: int) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(10_000))


def test_client_that_is_killed() -> None:
    if local_users.unavailable():
        pytest.skip(local_users.unavailable())
    code = """
import os, sys, time
from pytest_shelleval.sandboxes.local.provider import LocalProvider
provider = LocalProvider()
sandbox = provider.acquire()
sandbox.exec("setsid nohup sleep 1000 >/dev/null 2>&1 &", timeout=20)
print(provider._zygote._process.pid, flush=True)
sandbox.exec("sleep 1000", timeout=1000)
"""
    client = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": local_users.ROOT},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout
    with client.stdout:
        zygote = int(client.stdout.readline())
    family = [zygote, *_descendants(zygote)]
    assert len(family) > 3
    watched = [os.pidfd_open(process) for process in family]
    client.send_signal(signal.SIGKILL)
    client.wait()
    try:
        assert all(_ended(process) for process in watched)
    finally:
        for process in watched:
            os.close(process)


def _descendants(process: int) -> list[int]:
    found = []
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found += [child, *_descendants(child)]
    return found


# --- the kernel's doors


def test_namespaces_and_mounts(sandbox: Sandbox) -> None:
    for attack in (
        "unshare -Ur true",
        "unshare -m true",
        "unshare -n true",
        "mount -t tmpfs x /mnt",
        "mount -t proc x /mnt",
        "mount --bind / /mnt",
        "umount /proc",
        "umount -l /usr",
        "nsenter -t 1 -m true",
        "mv /usr/local /usr/elsewhere",
    ):
        assert fresh(sandbox, attack).exit_code != 0, attack
    assert alive(sandbox)


_CALLS = {
    # name: (x86_64, aarch64, arguments)
    "clone3": (435, 435, "0, 0"),
    "keyctl": (250, 219, "0, 0, 0"),
    "add_key": (248, 217, 'b"user", b"a", b"b", 1, -3'),
    "bpf": (321, 280, "0, 0, 0"),
    "io_uring_setup": (425, 425, "1, 0"),
    "perf_event_open": (298, 241, "0, 0, 0, 0, 0"),
    "ptrace": (101, 117, "0, 0, 0, 0"),
    "process_vm_readv": (310, 270, "1, 0, 0, 0, 0, 0"),
    "userfaultfd": (323, 282, "0"),
    "open_by_handle_at": (304, 265, "0, 0, 0"),
    "fsopen": (430, 430, 'b"tmpfs", 0'),
    "open_tree": (428, 428, '-100, b"/", 1'),
    "setns": (308, 268, "0, 0"),
    "unshare": (272, 97, "0x10000000"),
    "unshare_time": (272, 97, "0x80"),
    "init_module": (175, 105, "0, 0, 0"),
    "kexec_load": (246, 104, "0, 0, 0, 0"),
    "swapon": (167, 224, 'b"/tmp/x", 0'),
    "reboot": (169, 142, "0, 0, 0, 0"),
    "personality": (135, 92, "0x0400000"),
    "syslog": (103, 116, "3, 0, 0"),
    "x32": (0x40000000 + 39, 100000, ""),
}


def test_system_calls(sandbox: Sandbox) -> None:
    if MACHINE not in ("x86_64", "aarch64"):
        pytest.skip("numbers are known for x86_64 and aarch64")
    column = ("x86_64", "aarch64").index(MACHINE)
    calls = {name: (call[column], call[2]) for name, call in _CALLS.items()}
    lines = "\n".join(f"try_call({name!r}, {n}, {a})" for name, (n, a) in calls.items())
    result = python(
        sandbox,
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def try_call(name, number, *arguments):\n"
        "    result = libc.syscall(ctypes.c_long(number), *arguments)\n"
        "    print(name, result, ctypes.get_errno())\n" + lines,
    )
    answers = [line.split() for line in result.output.splitlines()]
    assert [answer[0] for answer in answers] == list(calls)
    for name, value, number in answers:
        assert (value, number) in {("-1", "1"), ("-1", "38")}, name


def test_typing_into_a_terminal(sandbox: Sandbox) -> None:
    result = python(
        sandbox,
        """
        import fcntl, os, pty
        master, slave = pty.openpty()
        for request in (0x5412, 0x541C, 0x5412 | 1 << 32):
            try:
                fcntl.ioctl(slave, request & 0xFFFFFFFF, b"x")
            except OSError as error:
                print(error.errno)
        """,
    )
    assert result.output.split()[:2] == ["1", "1"]


def test_the_first_process(sandbox: Sandbox) -> None:
    for attack in (
        "echo x > /proc/1/mem",
        "cat /proc/1/maps",
        "cat /proc/1/environ",
        "ls /proc/1/fd",
        "readlink /proc/1/exe",
        "ls /proc/1/root/",
        "ls /proc/1/cwd/",
        "cat /proc/1/stack",
        "gdb -p 1 -batch < /dev/null 2>&1 | grep -v ptrace",
        "echo 1000 > /proc/1/oom_score_adj",
        "prlimit --pid 1 --nofile=3",
    ):
        result = fresh(sandbox, attack)
        assert result.exit_code != 0, attack
    assert alive(sandbox)


def test_capabilities(sandbox: Sandbox) -> None:
    text = "grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status; grep Seccomp: /proc/self/status"
    # Docker's; a fresh shell has besides what keeps the session's processes away from it
    for run, held in (
        (sandbox.exec, "00000010a80425fb"),
        (sandbox.exec_session, "00000000a80425fb"),
    ):
        words = run(text, timeout=20).output.split()
        assert words == [
            "CapPrm:",
            held,
            "CapEff:",
            held,
            "CapBnd:",
            "00000000a80425fb",
            "Seccomp:",
            "2",
        ]


def test_changing_root_does_not_help(sandbox: Sandbox) -> None:
    text = """
    import os
    os.makedirs("/tmp/jail", exist_ok=True)
    outside = os.open("/", os.O_RDONLY)
    os.chroot("/tmp/jail")
    os.fchdir(outside)
    for _ in range(50):
        os.chdir("..")
    os.chroot(".")
    print(sorted(os.listdir("/")))
    """
    assert "'home'" in python(sandbox, text).output
    assert "writable" not in python(sandbox, text).output


# --- forging a result


@pytest.mark.parametrize(
    "attack",
    [
        "exit() { builtin exit 0; }; test() { :; }; [() { :; }; false() { :; }; export -f exit test [ false",
        "alias exit=true test=true; trap 'exit 0' EXIT; trap 'true' DEBUG ERR",
        "export BASH_ENV=/tmp/env ENV=/tmp/env; echo 'exit 0' > /tmp/env; cp /tmp/env ~/.bashrc; cp /tmp/env ~/.profile",
        "export LD_PRELOAD=/tmp/evil.so; export PATH=/tmp:$PATH; set -o posix; enable -n exit test [",
        "echo 'exit 0' > /etc/profile; echo 'exit 0' > /etc/bash.bashrc; echo 'exit 0' > ~/.bash_profile",
        "exec 0</dev/zero 1>/dev/null 2>&1",
        "for fd in {3..250}; do eval \"echo 0 >&$fd; echo '0 0' >&$fd\"; done 2>/dev/null",
        'for p in /proc/[0-9]*/fd/*; do timeout 1 sh -c "echo 0 > $p"; done 2>/dev/null',
        "echo '{\"code\": 0}'; printf '\\0\\0\\0\\1'",
    ],
)
def test_verdicts_can_not_be_forged(sandbox: Sandbox, attack: str) -> None:
    with contextlib.suppress(SandboxError):
        sandbox.exec_session(attack, timeout=40)
    fresh(sandbox, attack, timeout=40)
    assert fresh(sandbox, "exit 3").exit_code == 3
    assert fresh(sandbox, "test -e /no/such").exit_code == 1
    assert fresh(sandbox, "[ 1 = 2 ]").exit_code == 1
    assert fresh(sandbox, "false").exit_code == 1


def test_what_is_left_running_can_not_get_at_the_condition(sandbox: Sandbox) -> None:
    command = """
    (until [ -e /tmp/over ]; do
        for place in /proc/[0-9]*; do
            read -r name <$place/comm && [ "$name" != attacker ] || continue
            (exec 9<>$place/mem) && echo $name >>/tmp/written
            readlink $place/fd/1 && echo $name >>/tmp/seen
        done
    done) >/dev/null 2>&1 &
    """
    in_file = f"cat >/tmp/attacker <<'END'\n{command}\nEND\n. /tmp/attacker; sleep 7 &"
    assert sandbox.exec_session(in_file, timeout=20).exit_code == 0
    text = "cp /bin/bash ~/condition; ~/condition -c 'sleep 1.5; touch /tmp/over; :'; cat /tmp/written /tmp/seen"
    names = fresh(sandbox, text).output.split()
    assert "sleep" in names  # what it left itself
    assert "condition" not in names


def test_reports_can_not_be_forged_by_chance(sandbox: Sandbox) -> None:
    trap = "trap 'for fd in {3..200}; do echo \"ready 0\" >&$fd; done 2>/dev/null' DEBUG"
    sandbox.exec_session(trap, timeout=30)
    assert sandbox.exec_session("sleep 0.2; (exit 7)", timeout=30).exit_code == 7


def test_preloaded_libraries_do_not_reach_the_supervisor(sandbox: Sandbox) -> None:
    fresh(sandbox, "echo /tmp/evil.so > /etc/ld.so.preload; echo junk > /tmp/evil.so")
    result = fresh(sandbox, "exit 3")
    assert result.exit_code == 3
    assert "ld.so.preload" in result.output or result.output == ""


def test_escape_sequences_are_data(sandbox: Sandbox) -> None:
    result = fresh(sandbox, r"printf '\033]0;x\007\033[2J\000\377\r\n\x1b[6n'; exit 3")
    assert result.output == "\033]0;x\007\033[2J\0\\xff\r\n\x1b[6n"
    assert result.exit_code == 3


def test_a_supervisor_that_dies_is_a_fault(provider: Any) -> None:
    if not hasattr(provider, "_zygote"):
        pytest.skip("needs the sandbox in this process")
    sandbox = provider.acquire()
    signal.pidfd_send_signal(sandbox.process, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(SandboxError):
        fresh(sandbox, "true")
    assert time.monotonic() - started < 20
    sandbox.close()
    assert alive(provider.acquire())
