"""Phase 1 beside a bare loop of asyncio and httpx, on one loopback server: ratios of one run.

    python benchmarks/inference.py [--requests 1000] [--concurrency 64] [--rounds 5]

Both are measured in turn, so that a busy machine disturbs both. The bare loop sends the same requests
with one httpx.AsyncClient and reads the JSON of the answers; phase 1 also extracts the command and
writes the record. Each round has a warm-up of its own. Processor time is that of the client's process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.chat import ChatModel
from pytest_shelleval.models.inference import run_inference
from pytest_shelleval.models.plan import plan_inference
from pytest_shelleval.models.prompt import PromptTemplate

SERVER = r"""
import asyncio, json, sys

delay = float(sys.argv[1])
message = {"role": "assistant", "content": '{"command":"ls -l"}'}
body = json.dumps({
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49},
}).encode()
head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
answer = head.encode() + body

class Chat(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""

    def data_received(self, data):
        self.buffer += data
        while True:
            head, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            if delay:
                asyncio.get_running_loop().call_later(delay, self.transport.write, answer)
            else:
                self.transport.write(answer)

async def main():
    server = await asyncio.get_running_loop().create_server(Chat, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


def bare(url: str, tasks: list[Task], concurrency: int) -> None:
    bodies = iter(
        [
            {"model": "m", "messages": PromptTemplate().render(task), "temperature": 0.6}
            for task in tasks
        ]
    )

    async def main() -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:

            async def work() -> None:
                for body in bodies:
                    response = await client.post(f"{url}/chat/completions", json=body)
                    assert response.json()["choices"]

            await asyncio.gather(*(work() for _ in range(concurrency)))

    asyncio.run(main())


def phase1(url: str, tasks: list[Task], concurrency: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = CommandStore(Path(folder, "commands.jsonl"))
        model = ChatModel("m", base_url=url)
        plan = plan_inference(
            [(task, model, 0) for task in tasks],
            prompts=PromptTemplate().render,
            params={"temperature": 0.6},
            store=store,
        )
        done = run_inference(plan, store, concurrency=concurrency)
        store.close()
        assert (done.asked, done.failed) == (len(tasks), 0)


CLIENTS: dict[str, Callable[[str, list[Task], int], None]] = {"bare httpx": bare, "phase 1": phase1}


def measure(delay: float, requests: int, concurrency: int, rounds: int) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(delay)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
    rates: dict[str, list[float]] = {name: [] for name in CLIENTS}
    processor: dict[str, list[float]] = {name: [] for name in CLIENTS}
    tasks = [
        Task(f"t{n}", f"Count the lines of file {n} into total.txt", (), "true")
        for n in range(requests)
    ]
    try:
        for client in CLIENTS.values():
            client(url, tasks[: 2 * concurrency], concurrency)
        for number in range(rounds):
            # who goes first changes
            for name in sorted(CLIENTS, reverse=bool(number % 2)):
                wall, used = time.perf_counter(), time.process_time()
                CLIENTS[name](url, tasks, concurrency)
                rates[name].append(requests / (time.perf_counter() - wall))
                processor[name].append(1000 * (time.process_time() - used) / requests)
    finally:
        server.terminate()
        server.wait()
    ratios = [
        ours / theirs for ours, theirs in zip(rates["phase 1"], rates["bare httpx"], strict=True)
    ]
    costs = [a / b for a, b in zip(processor["phase 1"], processor["bare httpx"], strict=True)]
    figures = {
        "delay_ms": 1000 * delay,
        "concurrency": concurrency,
        **{f"{name}: requests/s": round(statistics.median(of), 1) for name, of in rates.items()},
        **{f"{name}: ms cpu": round(statistics.median(of), 2) for name, of in processor.items()},
        "throughput ratio": round(statistics.median(ratios), 3),
        "throughput ratios": [round(ratio, 2) for ratio in ratios],
        "processor ratio": round(statistics.median(costs), 3),
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for delay in (0.05, 0.0):
        measure(delay, given.requests, given.concurrency, given.rounds)


if __name__ == "__main__":
    main()
