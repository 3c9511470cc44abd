"""The protocol between client, zygote and supervisor.

A request is a fixed header, the directory and the text; an answer is a fixed header, the directory
and the output. The first answer on a control socket is sent without a request, when the sandbox is
ready, with a descriptor of its first process. Modules that the zygote imports, including this one,
use only the lightest parts of the standard library: every sandbox is a copy of that process.
"""

from __future__ import annotations

import array
import socket
import struct
from collections.abc import Mapping

EXEC, SESSION, MARK, EFFECTS, TAKE, RESTORE = 1, 2, 3, 4, 5, 6
"""Operations: run a text in a fresh shell, in the session; mark the present state (not answered), report
the effects since the mark; take a snapshot, restore one (sent as the text)."""
READY, FAILED, NO_SESSION, EXITED, TIMED_OUT, TRUNCATED, LACKS_IDS = 1, 2, 4, 8, 16, 32, 64
"""Flags of an answer. FAILED: there is no sandbox, and the output says why. LACKS_IDS: something needed
a user or group that the sandbox does not have."""
LIMITS = (None, "memory", "disk", "processes")
"""The limits, by their number in an answer."""
NO_CODE = -1
"""The exit code of a text that has none."""
LONGEST_TEXT = 64 << 20
"""The most bytes of one text; no command is longer."""

SCRIPT_DESCRIPTOR, TEXT_DESCRIPTOR, REPORT_DESCRIPTOR = 47, 48, 49
"""A shell's descriptors besides stdin, stdout and stderr. High, because scripts count from 3, bash itself
from 10 up and from 63 down; low, because a command may lower its limit (``ulimit -n 50``), and bash must
then be able to restore what it had closed."""
DESCRIPTORS_NEEDED = REPORT_DESCRIPTOR + 15
"""The lowest limit on open files that a sandbox can be created with."""
SCRIPT_LINK, SCRIPT_TARGET = "bash", f"/proc/self/fd/{SCRIPT_DESCRIPTOR}"
"""A link that must exist in the directory where the session's shell starts; the session removes it."""

PLAIN, WITH_SHELL = b"n", b"s"
"""Requests to the zygote: a sandbox, or one with a fresh shell that waits for the first text."""

REQUEST = struct.Struct("!BdII")
"""Operation, timeout, length of the directory, length of the text."""
ANSWER = struct.Struct("!BiBddII")
"""Flags, exit code, limit, seconds, share of a starved step (NaN: not starved), length of the directory,
length of the output."""
CONFIGURATION = struct.Struct("!QQQQ")
"""The limits sent to the zygote: memory, disk, processes, output; an image's path follows."""


def request(operation: int, timeout: float, directory: bytes, text: bytes) -> bytes:
    """An encoded request."""
    return REQUEST.pack(operation, timeout, len(directory), len(text)) + directory + text


def answer(
    flags: int,
    code: int = NO_CODE,
    limit: str | None = None,
    seconds: float = 0.0,
    starved: float | None = None,
    directory: bytes = b"",
    output: bytes = b"",
) -> bytes:
    """An encoded answer."""
    share = float("nan") if starved is None else starved
    sizes = len(directory), len(output)
    head = ANSWER.pack(flags, code, LIMITS.index(limit), seconds, share, *sizes)
    return head + directory + output


def pack_facts(facts: Mapping[str, object]) -> bytes:
    """The zygote's facts for the client, one per line."""
    lines = (f"{name}={' '.join(str(value).split())}\n" for name, value in facts.items())
    return "".join(lines).encode("utf-8", "backslashreplace")


def unpack_facts(message: bytes) -> dict[str, str | int]:
    """The facts of :func:`pack_facts`; digits become int."""
    facts: dict[str, str | int] = {}
    for line in message.decode().splitlines():
        name, _, value = line.partition("=")
        facts[name] = int(value) if value.isdigit() else value
    return facts


def receive_with_descriptors(source: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """At most *size* bytes, and the descriptors that came with them, which no child inherits.

    ``socket.recv_fds`` drops its flags, so its descriptors leak into every program executed.
    """
    width = array.array("i").itemsize
    data, ancillary, _, _ = source.recvmsg(
        size, socket.CMSG_SPACE(4 * width), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % width])
    return data, list(descriptors)
