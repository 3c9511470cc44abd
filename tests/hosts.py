"""Machines to try a run over: network namespaces on one bridge, each with a /tmp of its own and sshd.

Needs root, ip and sshd; nothing of it is seen outside, and all of it goes with :meth:`Hosts.close`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_HUB = """
ip link set lo up && ip link add bridge type bridge && ip link set bridge up &&
ip address add 192.0.2.254/24 dev bridge && echo ready && exec sleep infinity
"""
# What the interpreter and the plugin are made of stays visible, should it be below /tmp or at home.
_HOST = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$FOLDER/mount"
for kept in $KEPT; do
    case $kept in /tmp/*)
        mkdir -p "$FOLDER/mount${kept#/tmp}"
        mount --bind "$kept" "$FOLDER/mount${kept#/tmp}"
    esac
done
mkdir -p "$FOLDER/mount/ssh" && cp "$FOLDER"/host_key "$FOLDER"/user_key.pub "$FOLDER/mount/ssh"
chmod 1777 "$FOLDER/mount"
mount --rbind "$FOLDER/mount" /tmp
mount -t tmpfs tmpfs /run && mkdir /run/sshd
case " $KEPT" in *" $HOME/"*) ;; *) mount -t tmpfs tmpfs "$HOME" ;; esac
hostname "$NAME"
ip link set lo up
cd /tmp
echo ready
exec "$SSHD" -D -e -f /dev/null -h /tmp/ssh/host_key -o AuthorizedKeysFile=/tmp/ssh/user_key.pub \
    -o StrictModes=no -o UsePAM=no -o PidFile=none -o MaxStartups=100 -o PermitRootLogin=yes
"""


def missing() -> str:
    """Why there can be no such machines here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces with sshd need root"
    for program in ("ip", "nsenter", "setpriv", "unshare", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if SSHD is None:
        return "sshd is not installed"
    tried = subprocess.run(
        ["unshare", "-n", "-m", "-p", "-u", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces can't be made here: {tried.stderr.strip()}" if tried.returncode else ""


class Hosts:
    """*count* machines named ``host1`` and so on; ``192.0.2.1`` and so on are their addresses."""

    def __init__(self, count: int, folder: Path, *, ssh_options: str = "") -> None:
        """*folder* has to be below /tmp. *ssh_options* are lines for ssh's configuration."""
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []
        for name in ("host_key", "user_key"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        self.ssh_config = folder / "ssh_config"
        self.ssh_config.write_text(
            "Host host*\n  User root\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
            f"{ssh_options}  IdentityFile {folder}/user_key\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
            + "".join(f"Host host{n}\n  HostName 192.0.2.{n}\n" for n in range(1, count + 1))
        )
        try:
            self._hub = self._start("unshare", "-n", "bash", "-c", _HUB)
            self._hosts = [self._host(number) for number in range(1, count + 1)]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _host(self, number: int) -> int:
        folder = self._folder / f"host{number}"
        (folder / "mount").mkdir(parents=True)
        for name in ("host_key", "user_key.pub"):
            shutil.copy2(self._folder / name, folder)
        pid = self._start(
            *("unshare", "-n", "-m", "-p", "-u", "--fork", "--kill-child", "--mount-proc"),
            *("bash", "-c", _HOST),
            FOLDER=str(folder),
            KEPT=" ".join({sys.prefix, sys.base_prefix, str(ROOT)}),
            NAME=f"host{number}",
            SSHD=str(SSHD),
        )
        link, hub, host = f"host{number}", self._in(self._hub), self._in(pid)
        _run(*hub, "ip", "link", "add", link, "type", "veth", "peer", "eth0", "netns", str(pid))
        _run(*hub, "ip", "link", "set", link, "master", "bridge", "up")
        _run(*host, "ip", "address", "add", f"192.0.2.{number}/24", "dev", "eth0")
        _run(*host, "ip", "link", "set", "eth0", "up")
        wait_until(lambda: self.answers(number, 22))
        return pid

    def _start(self, *command: str, **environment: str) -> int:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],  # they go with this process, if need be
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(self._folder / "log").open("a"),
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", (self._folder / "log").read_text()
        return process.pid

    @staticmethod
    def _in(pid: int) -> list[str]:
        return ["nsenter", "-t", str(pid), "-n"]

    def answers(self, number: int, port: int) -> bool:
        """Whether something listens there."""
        text = f": </dev/tcp/192.0.2.{number}/{port}"
        command = [*self._in(self._hub), "timeout", "1", "bash", "-c", text]
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0

    def here(self, *command: str) -> list[str]:
        """*command* as it is run where the user sits: on the bridge, with this machine's files."""
        return [*self._in(self._hub), *command]

    def on(self, number: int, *command: str) -> list[str]:
        """*command* as it is run on a machine, without ssh."""
        inner = self._inner(self._hosts[number - 1])
        return ["nsenter", "-t", inner, "-n", "-m", "-p", "-u", "env", "--chdir=/tmp", *command]

    def output(self, number: int, text: str) -> str:
        """What the shell script *text* prints on a machine."""
        return _run(*self.on(number, "bash", "-c", text))

    @staticmethod
    def _inner(pid: int) -> str:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]

    def spec(self, number: int, *, workers: int = 1, python: str = "", more: str = "") -> str:
        """The option of pytest-xdist that runs *workers* on a machine."""
        alone = "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1"
        python = python or f"env PYTHONPATH={ROOT} {alone} {sys.executable}"
        return (
            f"--tx={workers}*ssh=host{number}//ssh_config={self.ssh_config}//python={python}{more}"
        )

    def cut(self, number: int) -> None:
        """Take a machine off the net, as if its cable had been pulled."""
        _run(*self._in(self._hub), "ip", "link", "set", f"host{number}", "down")

    def close(self) -> None:
        """End everything on the machines, and the machines; may be repeated."""
        while self._processes:
            process = self._processes.pop()
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for *what*. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def _run(*command: str | Path) -> str:
    words: Sequence[str] = list(map(str, command))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(words)}: {done.stderr.strip()}")
    return done.stdout
