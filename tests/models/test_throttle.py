from __future__ import annotations

import asyncio
import math

from pytest_shelleval.models.throttle import Throttle


async def let_in(throttle: Throttle, crowd: int) -> list[asyncio.Task[int]]:
    """*crowd* tasks that want in, after all had the chance."""
    tasks = [asyncio.ensure_future(throttle.enter()) for _ in range(crowd)]
    for _ in range(5):
        await asyncio.sleep(0)
    return tasks


def inside(tasks: list[asyncio.Task[int]]) -> int:
    return sum(task.done() for task in tasks)


def test_there_is_no_limit_before_a_complaint() -> None:
    async def main() -> None:
        throttle = Throttle()
        tasks = await let_in(throttle, 100)
        assert inside(tasks) == 100
        throttle.succeed()
        assert throttle.limit == math.inf

    asyncio.run(main())


def test_complaints_halve_what_is_in_flight_once_a_round() -> None:
    async def main() -> None:
        throttle = Throttle()
        tasks = await let_in(throttle, 16)
        for task in tasks:
            throttle.complain(task.result())
            throttle.leave()
        assert throttle.limit == 8
        tasks = await let_in(throttle, 16)
        assert inside(tasks) == 8
        throttle.complain(tasks[0].result())
        assert throttle.limit == 4
        for _ in range(8):
            throttle.leave()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert inside(tasks) == 12
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_it_never_falls_below_one_and_recovers() -> None:
    async def main() -> None:
        throttle = Throttle()
        for _ in range(5):
            throttle.complain(await throttle.enter())
            throttle.leave()
        assert throttle.limit == 1
        for _ in range(50):
            throttle.succeed()
        assert throttle.limit > 8

    asyncio.run(main())
