"""How many requests a server is sent at once, learned from its complaints."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque


class Throttle:
    """Lets requests through, fewer at a time after a server said that they are too many.

    There is no limit until the first complaint; each complaint halves what was in flight, and each
    success wins a part of it back (one more request for every round of successes). Complaints about
    requests that were sent before the last halving count once. For one event loop at a time.
    """

    def __init__(self) -> None:
        self._limit = math.inf
        self._in_flight = 0
        self._round = 0
        self._paused_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> float:
        """Requests let through at once; infinite while nobody complained."""
        return self._limit

    async def enter(self) -> int:
        """Wait for a place. Returns a ticket for :meth:`complain`; :meth:`leave` gives it back."""
        while True:
            pause = self._paused_until - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self._in_flight < self._limit:
                self._in_flight += 1
                return self._round
            else:
                place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(place)
                await place

    def leave(self) -> None:
        """Give the place back."""
        self._in_flight -= 1
        self._wake()

    def complain(self, ticket: int, pause: float = 0.0) -> None:
        """The server said "too many"; send nothing more for *pause* seconds."""
        self._paused_until = max(self._paused_until, time.monotonic() + pause)
        if ticket == self._round:
            self._round += 1
            self._limit = max(1.0, min(self._limit, self._in_flight) / 2)

    def succeed(self) -> None:
        """A request went through."""
        if self._limit < math.inf:
            self._limit += 1 / self._limit
            self._wake()

    def _wake(self) -> None:
        free = self._limit - self._in_flight
        while self._waiting and free >= 1:
            place = self._waiting.popleft()
            if not place.done():  # else its request was cancelled
                place.set_result(None)
                free -= 1
