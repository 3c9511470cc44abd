"""Rate limits: the user's own per minute, and those in the server's headers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_GUESSED_OUTPUT = 256


class _Bucket:
    """A token bucket: refilled evenly, holds at most one second's worth; may go into debt."""

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60
        self._most = max(1.0, self._rate)
        self._balance = self._most
        self._at = time.monotonic()

    def wait(self) -> float:
        """Seconds until something may be spent again."""
        now = time.monotonic()
        self._balance = min(self._most, self._balance + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (min(1.0, self._most) - self._balance) / self._rate)

    def spend(self, amount: float) -> None:
        self._balance -= amount


class Pace:
    """Limits requests and tokens per minute. ``rpm`` and ``tpm`` None: only the server's own limits.

    Tokens are estimated before a request, and corrected by its real usage. If the server's headers
    say how much is left (``x-ratelimit-remaining-*``, ``-reset-*``), requests that it would refuse
    wait; a wait longer than *max_wait* seconds is left to the server's 429.
    """

    def __init__(self, rpm: float | None, tpm: float | None, max_wait: float) -> None:
        self._requests = _Bucket(rpm) if rpm else None
        self._tokens = _Bucket(tpm) if tpm else None
        self._max_wait = max_wait
        self._not_before = 0.0
        self._outputs = 0
        self._replies = 0
        self._needs_tokens = 1.0

    async def enter(self, prompt_tokens: int, max_tokens: int | None) -> float:
        """Wait until a request may go out. Returns the tokens taken for it, for :meth:`used`."""
        if self._replies:
            output = self._outputs / self._replies
        else:
            output = min(max_tokens or _GUESSED_OUTPUT, _GUESSED_OUTPUT)
        taken = prompt_tokens + output
        self._needs_tokens = taken
        while True:
            pause = self._not_before - time.monotonic()
            for bucket in (self._requests, self._tokens):
                pause = max(pause, bucket.wait() if bucket is not None else 0.0)
            if pause <= 0:
                break
            await asyncio.sleep(pause)
        if self._requests is not None:
            self._requests.spend(1)
        if self._tokens is not None:
            self._tokens.spend(taken)
        return taken

    def used(self, taken: float, usage: Mapping[str, int] | None) -> None:
        """Correct the *taken* tokens by the reply's *usage*; None changes nothing."""
        if usage is None:
            return
        output = usage.get("output_tokens", 0)
        self._outputs += output
        self._replies += 1
        if self._tokens is not None:
            self._tokens.spend(usage.get("input_tokens", 0) + output - taken)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Apply the rate-limit headers of an answer of any status."""
        for kind, need in (("requests", 1.0), ("tokens", self._needs_tokens)):
            left = _count(headers.get(f"x-ratelimit-remaining-{kind}"))
            if left is None or left >= need:
                continue
            reset = duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if reset is None:
                continue
            limit = _count(headers.get(f"x-ratelimit-limit-{kind}"))
            if limit is not None and limit > left:  # it refills evenly until the reset
                reset *= min(1.0, (need - left) / (limit - left))
            if reset <= self._max_wait:
                self._not_before = max(self._not_before, time.monotonic() + reset)


def duration(text: str) -> float | None:
    """Seconds of ``6m0s``, ``20ms`` or ``1.5``; None if *text* is no duration (a time stamp, say)."""
    text = text.strip().lower()
    if _DURATION.fullmatch(text):
        return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if re.fullmatch(r"\d{1,6}(\.\d+)?", text):
        return float(text)
    return None


def _count(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\d{1,15}", text.strip()) else None
