"""The output of commands, as the supervisor of a sandbox reads it."""

from __future__ import annotations

import os
import select

_CHUNK = 1 << 18


class Output:
    """The read end of a pipe that commands write to: keeps the first bytes, discards the rest."""

    def __init__(self, descriptor: int, limit: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.truncated = False
        self.closed = False
        self._limit = self._room = limit
        self._chunks: list[bytes] = []

    def read(self) -> bool:
        """Read what is available, at most one chunk; False if there was nothing."""
        try:
            chunk = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self.closed = True
            return False
        if self._room >= len(chunk):
            self._chunks.append(chunk)
            self._room -= len(chunk)
        else:
            self.truncated = True
            if self._room:
                self._chunks.append(chunk[: self._room])
                self._room = 0
        return True

    def drain(self) -> None:
        """Read what is available, in at most 64 chunks, so that an endless writer can't block it."""
        for _ in range(64):
            if self.closed or not self.read():
                return

    def wait(self, seconds: float) -> None:
        """Wait until there is something to read, for *seconds* at most."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        poll.poll(seconds * 1000)

    def take(self) -> bytes:
        """Return the kept bytes and reset."""
        kept = b"".join(self._chunks)
        self._chunks.clear()
        self._room = self._limit
        self.truncated = False
        return kept
