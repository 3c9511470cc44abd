"""How many requests a server is sent at once, learned from its complaints."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

_GROWTH = 8  # a part of the limit
_CLEAN = 4  # answers; else a server that serves one at a time would refuse every other request


class Throttle:
    """Lets requests through, fewer at a time after a server said that they are too many.

    There is no limit until the first complaint. From then on answers are counted in rounds, of as
    many as there are places. After a round with complaints the limit falls by half of their share,
    as in DCTCP (RFC 8257): to half where everything was refused, hardly where one in twenty was. So
    a crowd that is turned away halves and halves again, and a server that now and then says 503 is
    still asked at nearly full speed. After a round without a complaint, and at least 4 answers, the
    limit grows by one, or an eighth, if anyone waits for a place. Only complaints and successes count: a lost connection or a
    500 says nothing of how many are too many.

    For one event loop at a time.
    """

    def __init__(self) -> None:
        self._limit = math.inf
        self._in_flight = 0
        self._answers = 0
        self._complaints = 0
        self._paused_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> float:
        """Requests let through at once; infinite while nobody complained."""
        return self._limit

    async def enter(self) -> None:
        """Wait for a place; :meth:`leave` gives it back."""
        while True:
            pause = self._paused_until - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self._in_flight + 1 <= self._limit:
                self._in_flight += 1
                return
            else:
                place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(place)
                await place

    def leave(self) -> None:
        """Give the place back."""
        self._in_flight -= 1
        self._wake()

    def complain(self, pause: float = 0.0) -> None:
        """The server said "too many"; send nothing more for *pause* seconds."""
        self._paused_until = max(self._paused_until, time.monotonic() + pause)
        if self._limit == math.inf:
            self._limit = max(1.0, self._in_flight)
        self._complaints += 1
        self._count()

    def succeed(self) -> None:
        """A request went through."""
        if self._limit < math.inf:
            self._count()
            self._wake()

    def _count(self) -> None:
        """One more answer; at the end of a round, set the limit for the next."""
        self._answers += 1
        if self._answers < self._limit:
            return
        if self._complaints:
            share = self._complaints / self._answers
            self._limit = max(1.0, self._limit * (1 - share / 2))
        elif self._answers < _CLEAN:
            return
        elif self._waiting:
            self._limit += max(1.0, self._limit / _GROWTH)
        self._answers = self._complaints = 0

    def _wake(self) -> None:
        free = self._limit - self._in_flight
        while self._waiting and free >= 1:
            place = self._waiting.popleft()
            if not place.done():  # else its request was cancelled
                place.set_result(None)
                free -= 1
