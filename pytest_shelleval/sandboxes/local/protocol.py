"""What client and supervisor say to each other over a sandbox's control socket.

A request is a fixed header, the directory and the text. An answer is two lengths, a JSON object and
the output's bytes. The first answer comes unasked, when the sandbox is ready, with a descriptor of
its first process.
"""

from __future__ import annotations

import array
import json
import socket
import struct
from typing import Any

REQUEST = struct.Struct("!BdII")
"""Operation, timeout, length of the directory, length of the text."""
ANSWER = struct.Struct("!II")
"""Length of the JSON object, length of the output."""
EXEC = 1
SESSION = 2
LONGEST_TEXT = 64 << 20
"""Bytes of one text; more is not a command."""


def request(operation: int, timeout: float, directory: bytes, text: bytes) -> bytes:
    """A request as it travels."""
    return REQUEST.pack(operation, timeout, len(directory), len(text)) + directory + text


def answer(fields: dict[str, Any], output: bytes = b"") -> bytes:
    """An answer as it travels."""
    head = json.dumps(fields).encode()
    return ANSWER.pack(len(head), len(output)) + head + output


def receive_with_descriptors(source: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """At most *size* bytes, and the descriptors that came with them, which no child inherits.

    ``socket.recv_fds`` drops its flags, and what it receives leaks into every program executed.
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
