"""Limits the requests in flight to what a server accepts, learned from its refusals."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

_GROWTH = 8  # the limit grows by one part in 8
_CLEAN = 4  # answers before growth; else a one-at-a-time server would refuse every second request


class Throttle:
    """Limits concurrent requests after a server said that there are too many.

    There is no limit until the first complaint. From then on answers are counted in rounds, each as
    long as the limit. After a round with complaints the limit falls by half of their share, as in
    DCTCP (RFC 8257): to half if everything was refused, hardly at all if one in twenty was. So the
    limit keeps halving while everything is refused, and a server that sends an occasional 503 is
    still asked at nearly full speed. After a round without a complaint, and at least 4 answers, the
    limit grows by an eighth, at least by one, if any request is waiting. Only complaints and successes
    count: a lost connection or a 500 does not say how many requests are too many.

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
        """The most concurrent requests; infinite until the first complaint."""
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
        """Call when the server said "too many"; nothing more is sent for *pause* seconds."""
        self._paused_until = max(self._paused_until, time.monotonic() + pause)
        if self._limit == math.inf:
            self._limit = max(1.0, self._in_flight)
        self._complaints += 1
        self._count()

    def succeed(self) -> None:
        """Call when a request has succeeded."""
        if self._limit < math.inf:
            self._count()
            self._wake()

    def _count(self) -> None:
        """Count one more answer; at the end of a round, set the limit for the next."""
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
