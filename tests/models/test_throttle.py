"""How many requests go out at once, on a server of turns of the event loop in place of seconds."""

from __future__ import annotations

import asyncio
import math
import random
import statistics
from collections.abc import Callable

import pytest

from pytest_shelleval.models.throttle import Throttle

Refuses = Callable[[int], bool]
"""Whether a request is too many, by how many are in flight."""


class Crowd:
    """*workers* that want *requests* served, each of which takes 20 turns."""

    def __init__(self, workers: int, requests: int, refuses: Refuses) -> None:
        self.throttle = Throttle()
        self.in_flight = 0
        self.seen: list[int] = []
        """Requests in flight, as each request found them."""
        self.refused = 0
        self._todo = iter(range(requests))
        self._workers = workers
        self._refuses = refuses

    async def run(self) -> None:
        await asyncio.wait_for(asyncio.gather(*(self._work() for _ in range(self._workers))), 60)

    async def _work(self) -> None:
        for _ in self._todo:
            while not await self._ask():
                await turns(10)

    async def _ask(self) -> bool:
        await self.throttle.enter()
        self.in_flight += 1
        self.seen.append(self.in_flight)
        await turns(20)
        refused = self._refuses(self.in_flight)
        self.in_flight -= 1
        self.refused += refused
        if refused:
            self.throttle.complain()
        else:
            self.throttle.succeed()
        self.throttle.leave()
        return not refused


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def crowd(workers: int, requests: int, refuses: Refuses) -> Crowd:
    found = Crowd(workers, requests, refuses)
    asyncio.run(found.run())
    assert found.in_flight == 0
    return found


def test_there_is_no_limit_before_a_complaint() -> None:
    found = crowd(100, 300, lambda _: False)
    assert max(found.seen) == 100
    assert found.throttle.limit == math.inf


@pytest.mark.parametrize(("workers", "capacity"), [(16, 4), (64, 8), (64, 32)])
def test_a_server_with_so_many_places_is_used_and_not_pestered(workers: int, capacity: int) -> None:
    found = crowd(workers, 3000, lambda in_flight: in_flight > capacity)
    late = found.seen[len(found.seen) // 2 :]
    assert capacity * 0.75 <= statistics.mean(late) <= capacity * 1.25
    assert found.refused <= 3000 * 0.2 + 2 * workers


def test_where_everything_is_refused_it_halves_round_by_round() -> None:
    async def main() -> list[float]:
        throttle, limits = Throttle(), []
        for _ in range(6):
            places = 16 if throttle.limit == math.inf else int(throttle.limit)
            for _ in range(places):
                await throttle.enter()
            for _ in range(places):
                throttle.complain()
                throttle.leave()
            limits.append(throttle.limit)
        return limits

    assert asyncio.run(main()) == [8, 4, 2, 1, 1, 1]


def test_a_limit_of_one_grows_after_four_clean_answers() -> None:
    async def main() -> list[float]:
        throttle, limits = Throttle(), []
        await throttle.enter()
        throttle.complain()
        throttle.leave()
        for _ in range(6):
            await throttle.enter()
            waiting = asyncio.ensure_future(throttle.enter())  # the limit grows where one waits
            await turns(3)
            throttle.succeed()
            limits.append(throttle.limit)
            throttle.leave()
            await waiting
            throttle.leave()
        return limits

    assert asyncio.run(main()) == [1, 1, 1, 2, 2, 2]


def test_it_recovers() -> None:
    bad = iter([True] * 200)
    found = crowd(32, 3000, lambda _: next(bad, False))
    assert min(found.seen[150:220]) == 1
    assert max(found.seen[-200:]) == 32


@pytest.mark.parametrize("workers", [16, 64])
def test_complaints_now_and_then_do_not_stop_it(workers: int) -> None:
    chance = random.Random(1)
    found = crowd(workers, 3000, lambda _: chance.random() < 0.05)
    assert statistics.mean(found.seen) >= workers / 2


def test_those_that_give_up_waiting_hold_up_nobody() -> None:
    async def main() -> None:
        throttle = Throttle()
        await throttle.enter()
        throttle.complain()
        waiting = [asyncio.ensure_future(throttle.enter()) for _ in range(3)]
        await turns(3)
        waiting[0].cancel()
        throttle.leave()
        await turns(3)
        assert [task.done() for task in waiting] == [True, True, False]
        throttle.leave()
        await asyncio.wait_for(waiting[2], 5)

    asyncio.run(main())
