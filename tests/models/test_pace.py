"""Limits per minute, the server's headers, and waits that are too long."""

from __future__ import annotations

import asyncio
import time

import pytest

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.core.errors import InferencePaused
from pytest_shelleval.models.inference import InferenceSummary, run_inference
from pytest_shelleval.models.pace import Pace, duration

from .chat_server import ChatServer, completion, error
from .test_inference import chat, lines, plan, tasks


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("2", 2),
        ("1700000000000", None),
        ("2026-01-01T00:00:00Z", None),
        ("", None),
        ("soon", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == pytest.approx(seconds)


def passed(pace: Pace, times: int, tokens: int = 1) -> float:
    """Seconds that *times* requests wait together."""

    async def main() -> float:
        begun = time.monotonic()
        for _ in range(times):
            taken = await pace.enter(tokens, 10)
            pace.used(taken, {"input_tokens": tokens, "output_tokens": 0})
        return time.monotonic() - begun

    return asyncio.run(main())


def test_requests_per_minute() -> None:
    assert passed(Pace(600, None, 300), 14) >= 0.4 - 0.1  # a second's worth at once


def test_tokens_per_minute() -> None:
    assert passed(Pace(None, 6000, 300), 4, tokens=50) >= 0.5 - 0.2


def test_no_limit_is_no_wait() -> None:
    assert passed(Pace(None, None, 300), 100) < 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "200ms"}, 0.2),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-limit-requests": "10",
                "x-ratelimit-reset-requests": "2s",
            },
            0.2,
        ),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "200ms"}, 0.2),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "9s"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "24h"}, 0),
        ({"x-ratelimit-remaining-requests": "0"}, 0),
        ({"x-ratelimit-remaining-requests": "x", "x-ratelimit-reset-requests": "9s"}, 0),
    ],
)
def test_headers_are_heeded(headers: dict[str, str], seconds: float) -> None:
    pace = Pace(None, None, 300)
    pace.heed(headers)
    waited = passed(pace, 1)
    assert waited >= seconds - 0.05
    assert seconds or waited < 1


def test_a_daily_quota_ends_the_phase_and_keeps_what_came(
    server: ChatServer, store: CommandStore
) -> None:
    server.script = [completion() for _ in range(5)]
    server.then = error(429, "daily quota", retry_after="40000")
    summary = InferenceSummary()
    with pytest.raises(InferencePaused, match=r"asks to wait 40000 s.*run the same command later"):
        run_inference(
            plan(store, tasks(50), chat(server, max_wait=60)),
            store,
            concurrency=4,
            summary=summary,
        )
    assert len(lines(store)) == summary.asked == 5
    assert all(line["generated_command"] for line in lines(store))
    assert len(server.requests) <= 5 + 4
    server.then = completion()
    run_inference(plan(store, tasks(50), chat(server)), store, concurrency=4)
    assert len(lines(store)) == 50


def test_those_that_wait_for_another_try_do_not_hold_up_the_end(
    server: ChatServer, store: CommandStore
) -> None:
    server.script = [error(500), completion()]
    server.then = error(429, "daily quota", retry_after="40000")
    begun = time.monotonic()
    with pytest.raises(InferencePaused):
        run_inference(plan(store, tasks(9), chat(server, backoff=30)), store, concurrency=2)
    assert time.monotonic() - begun < 20
