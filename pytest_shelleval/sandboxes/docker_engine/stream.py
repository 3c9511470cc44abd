"""The connection to a container's first process: three streams over one socket."""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import struct
import time
from typing import Any

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.sandboxes import container_supervisor as inside

_HEADER = struct.Struct(">BxxxL")
_CHUNK = 1 << 18
_MOST_REPORT = 1 << 16


def raw_socket(attached: Any) -> Any:
    """The socket to read and write in the SDK's object for an attached container."""
    return getattr(attached, "_sock", attached)


class Output:
    """Keeps the first bytes of the output, and finds the marker that ends it."""

    def __init__(self, limit: int, marker: bytes) -> None:
        self.truncated = False
        self.ended = False
        self._limit = limit
        self._marker = marker
        self._kept = bytearray()
        self._tail = b""

    def add(self, chunk: bytes) -> None:
        """Add a received chunk."""
        # The marker may come in two chunks: bytes that could be its start are held back.
        data = self._tail + chunk
        at = data.find(self._marker)
        if at >= 0:
            self.ended = True
            data, self._tail = data[:at], b""
        else:
            held = min(len(data), len(self._marker) - 1)
            data, self._tail = data[: len(data) - held], data[len(data) - held :]
        self._keep(data)

    def _keep(self, data: bytes) -> None:
        room = self._limit - len(self._kept)
        self._kept += data[:room]
        self.truncated = self.truncated or len(data) > room

    def text(self) -> str:
        """The kept output, decoded."""
        self._keep(self._tail)
        self._tail = b""
        return self._kept.decode("utf-8", "backslashreplace")


class Connection:
    """Requests to the supervisor in a container, and its answers."""

    def __init__(self, attached: Any) -> None:
        self._attached = attached
        self._socket = raw_socket(attached)
        self._pending = bytearray()

    def ready(self, seconds: float) -> None:
        """Wait until the supervisor answers. Raises SandboxError if it does not within *seconds*."""
        nonce = secrets.token_hex(12)
        request = inside.request(nonce, inside.SESSION, "", seconds, "")
        self.ask(nonce, request, Output(1 << 12, inside.marker(nonce)), seconds)

    def ask(self, nonce: str, request: bytes, output: Output, seconds: float) -> inside.Record:
        """Send *request* and wait for its record and all of its output.

        Raises SandboxError when that takes longer than *seconds*, or the connection breaks.
        """
        deadline = time.monotonic() + seconds
        self._send(request, deadline)
        report = bytearray()
        record: inside.Record | None = None
        while record is None or not output.ended:
            for stream, chunk in self._receive(deadline):
                if stream == 1:
                    output.add(chunk)
                elif len(report) < _MOST_REPORT:
                    report += chunk
            # not earlier: it may raise, and would leave output unread
            if output.ended and record is None:
                record = inside.parse_record(bytes(report), nonce)
        return record

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(deadline, writing=True)
            sent = self._socket.send(view[:_CHUNK])
            view = view[sent:]

    def _wait(self, deadline: float, *, writing: bool = False) -> None:
        left = deadline - time.monotonic()
        pending = getattr(self._socket, "pending", None)
        if not writing and pending is not None and pending():
            return  # TLS has decrypted more than was read
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT if writing else select.POLLIN)
        if left <= 0 or not poll.poll(left * 1000):
            raise SandboxError("the container does not answer")

    def _receive(self, deadline: float) -> list[tuple[int, bytes]]:
        self._wait(deadline)
        received = self._socket.recv(_CHUNK)
        if not received:
            raise SandboxError("the container is gone")
        self._pending += received
        frames = []
        at = 0
        while len(self._pending) - at >= _HEADER.size:
            stream, size = _HEADER.unpack_from(self._pending, at)
            end = at + _HEADER.size + size
            if len(self._pending) < end:
                break
            frames.append((stream, bytes(self._pending[at + _HEADER.size : end])))
            at = end
        del self._pending[:at]
        return frames

    def close(self) -> None:
        """Close the connection; the container's first process then ends, and the container with it."""
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            self._attached.close()
            self._socket.close()
