"""What client and supervisor say to each other over a sandbox's control socket.

A request is a fixed header, the directory and the text. An answer is two lengths, a JSON object and
the output's bytes. The first answer comes unasked, when the sandbox is ready, with a descriptor of
its first process.
"""

from __future__ import annotations

import json
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
