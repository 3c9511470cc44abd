"""Distributes the work of a validation to threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from pytest_shelleval.validation.rows import RowCheck

_PAUSE_SECONDS = 0.05


class WorkQueue:
    """The work left: pairs of a row and the number of its next round."""

    def __init__(self, rows: Sequence[RowCheck], rounds: int, stop: threading.Event) -> None:
        self._rounds = rounds
        self._stop = stop
        self._left = len(rows) * rounds
        self._waiting: deque[tuple[RowCheck, int]] = deque((row, 0) for row in rows)
        self._changed = threading.Condition()
        self.error: BaseException | None = None

    def next(self) -> tuple[RowCheck, int] | None:
        """Wait for a row that is ready, first come, first served; None if no work is left."""
        with self._changed:
            while self._left and self.error is None and not self._stop.is_set():
                now = time.monotonic()
                for _ in range(len(self._waiting)):
                    row, number = self._waiting.popleft()
                    if number == 0 or row.ready <= now:
                        return row, number
                    self._waiting.append((row, number))
                self._changed.wait(_PAUSE_SECONDS)
            return None

    def done(self, row: RowCheck, number: int) -> None:
        """Note that *row* finished round *number*."""
        with self._changed:
            self._left -= 1
            if number + 1 < self._rounds:
                self._waiting.append((row, number + 1))
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Stop handing out work, because of *error*."""
        with self._changed:
            self.error = error
            self._changed.notify_all()
