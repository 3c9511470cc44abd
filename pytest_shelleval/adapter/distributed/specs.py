"""Where the workers of pytest-xdist are to run: reading ``--tx`` and ``--px``, asking who answers."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from execnet import Gateway, Group, XSpec

_SECONDS = 15.0
"""How long a machine has for an answer."""
_SSH = {
    "serveraliveinterval": ("0", "ServerAliveInterval=10"),
    "connecttimeout": ("none", f"ConnectTimeout={_SECONDS:g}"),
}
"""What ssh says where the user has not chosen, and what is chosen then."""
_OURS = re.compile("|".join(f"-o {option} " for _, option in _SSH.values()))


def is_near(spec: XSpec) -> bool:
    """Whether a worker of *spec* runs on the controller's machine."""
    return bool(spec.popen) and not spec.via


def machine_of(spec: XSpec) -> str:
    """What tells the machine of *spec* from others; empty for the controller's."""
    if is_near(spec):
        return ""
    if spec.via:
        return f"via={spec.via}"
    if spec.ssh:
        return _OURS.sub("", spec.ssh)
    return str(spec.vagrant_ssh or str(spec.socket).partition(":")[0])


def parsed(texts: Sequence[str]) -> list[XSpec]:
    """The places that *texts*, values of ``--tx`` or ``--px``, stand for; ``3*`` is three."""
    if not texts:
        return []
    from execnet import XSpec

    found: list[XSpec] = []
    for text in texts:
        count, star, rest = text.partition("*")
        if star and count.isdigit():
            found += [XSpec(rest)] * int(count)
        else:
            found.append(XSpec(text))
    return found


def watched(text: str) -> str:
    """*text*, a value of ``--tx`` or ``--px``, so that ssh notices when a machine is cut off.

    Left as it is where the user or ssh's configuration says how long to wait.
    """
    count, star, rest = text.partition("*")
    if not (star and count.isdigit()):
        count, star, rest = "", "", text
    words = rest.split("//")
    (spec,) = parsed([rest])
    if not spec.ssh:
        return text
    chosen = ["-F", str(spec.ssh_config)] if spec.ssh_config else []
    command = ["ssh", "-G", *chosen, *spec.ssh.split()]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
        more = [option for name, (unset, option) in _SSH.items() if said.get(name, unset) == unset]
        if done.returncode == 0 and more:
            options = " ".join(f"-o {option}" for option in more)
            words = [
                f"ssh={options} {word[4:]}" if word.startswith("ssh=") else word for word in words
            ]
    return count + star + "//".join(words)


def prepare_for_cut(gateway: Gateway) -> None:
    """See that a cut is noticed where *gateway* is a socket, and survived where it is proxied."""
    io = getattr(gateway, "_io", None)
    if gateway.spec.via and io is not None:
        io.kill = tolerant(
            io.kill
        )  # asked of the proxy, at the end of pytest, whether it lives or not
    link = getattr(io, "sock", None)
    if isinstance(link, socket.socket):
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("KEEPIDLE", 10), ("KEEPINTVL", 10), ("KEEPCNT", 3)):
            if hasattr(socket, f"TCP_{name}"):
                link.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # for what was sent and never acknowledged
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 40_000)


def tolerant(send: Callable[..., None]) -> Callable[..., None]:
    """*send* that does nothing where the other side is dead: of that its owner hears anyway."""

    def sending(*args: Any, **kwargs: Any) -> None:
        with contextlib.suppress(OSError, EOFError):
            send(*args, **kwargs)

    return sending


def answers(spec: XSpec, group: Group) -> bool:
    """Whether a worker could be started at *spec* now; takes up to 15 s."""
    if spec.via:
        return _proxy_answers(group, spec.via)
    if spec.ssh:
        chosen = ["-F", str(spec.ssh_config)] if spec.ssh_config else []
        command = ["ssh", "-o", "BatchMode=yes", *chosen, *spec.ssh.split(), "true"]
        try:
            return subprocess.run(command, capture_output=True, timeout=_SECONDS).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False
    if spec.socket:
        host, _, port = spec.socket.partition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=_SECONDS) as link:
                # the server runs a line of Python; one that still has a worker does not get to it
                link.sendall(repr("clientsock.sendall(b'1'); clientsock.close()").encode() + b"\n")
                return link.recv(1) == b"1"
        except (OSError, ValueError):
            return False
    return True


def _proxy_answers(group: Group, name: str) -> bool:
    try:
        channel = group[name].remote_exec("channel.send(1)")
    except (OSError, KeyError):
        return False
    try:
        return bool(channel.receive(timeout=_SECONDS) == 1)
    except (EOFError, channel.TimeoutError):
        return False
