"""Tasks per second of every kind of sandbox at 1, 4 and 8 workers, in one run.

    python benchmarks/backends.py [--seconds 4] [--rounds 2] [--kinds local,docker,...]

A task is a setup, a command in the session and a condition; a worker is a thread. Kinds take turns,
so that the load of the machine falls on all of them alike: trust the ratios. Docker needs an engine
that answers and the image (``--image``). ``sos(...)`` is ``shelleval serve`` in a process of its own
on loopback; ``relayed`` treats it as any SoS server, whose session is not to be trusted.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import Limits

WORKERS = (1, 4, 8)
KINDS = ("local", "sos(local)", "sos(local) relayed", "docker", "sos(docker)")
TASK = Task(
    task_id="copy",
    task="Copy in to out",
    setup_commands=("echo text > in",),
    success_condition="cmp in out",
)
COMMAND = Command(
    task_id=TASK.task_id,
    task=TASK.task,
    setup_commands=list(TASK.setup_commands),
    success_condition=TASK.success_condition,
    generated_command="cp in out",
    timestamp="",
)


@contextlib.contextmanager
def server(kind: str, image: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    module = "pytest_shelleval.cli.main"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", module, "serve", "--port", str(port)),
            *("--max-sandboxes", "32", "--sandbox", kind, "--image", image, "--pool-size", "4"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def provider(kind: str, image: str) -> Iterator[SandboxProvider]:
    with contextlib.ExitStack() as stack:
        made: SandboxProvider
        if kind == "local":
            from pytest_shelleval.sandboxes.local.provider import LocalProvider

            made = LocalProvider(Limits(), pool_size=2)
        elif kind == "docker":
            from pytest_shelleval.sandboxes.docker_engine.provider import DockerProvider

            made = DockerProvider(Limits(), image=image, pool_size=4)
        else:
            from pytest_shelleval.sandboxes.sos.provider import SosProvider

            url = stack.enter_context(server("local" if "local" in kind else "docker", image))
            made = SosProvider([url], image=image, pool_size=2, permits=32)
            if kind.endswith("relayed"):
                _distrust(made)
        stack.callback(made.close)
        yield made


def _distrust(made: object) -> None:
    from pytest_shelleval.sandboxes.sos.api import Health

    made._api.health = lambda url: Health(None)  # type: ignore[attr-defined]


def rate(made: SandboxProvider, workers: int, seconds: float) -> float:
    """Tasks per second that *workers* threads get done."""
    end = time.monotonic() + seconds
    lock = threading.Lock()
    done = 0

    def work(_: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            execution = Execution(TASK, COMMAND, made, ExecutionPolicy())
            try:
                result = execution.run()
            finally:
                execution.release()
            if result.status != "passed":
                raise SystemExit(f"wrong: {result.failure_reason()}")
            with lock:
                done += 1

    started = time.monotonic()
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(work, range(workers)))
    return done / (time.monotonic() - started)


def measure(
    kinds: list[str], image: str, seconds: float, rounds: int, tell: Callable[[str], None]
) -> dict[tuple[str, int], float]:
    best: dict[tuple[str, int], float] = {}
    with contextlib.ExitStack() as stack:
        providers = {kind: stack.enter_context(provider(kind, image)) for kind in kinds}
        for made in providers.values():
            made.acquire().close()
        for number in range(rounds):
            for workers in WORKERS:
                for kind, made in providers.items():
                    found = rate(made, workers, seconds)
                    best[kind, workers] = max(found, best.get((kind, workers), 0.0))
                    tell(f"round {number + 1}: {kind}, {workers} workers: {found:.1f}/s")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--image", default="shelleval-sandbox:latest")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    best = measure(
        kinds,
        options.image,
        options.seconds,
        options.rounds,
        lambda line: print(line, file=sys.stderr),
    )
    print("tasks per second, best of", options.rounds, "rounds")
    print("| kind | " + " | ".join(f"{workers} workers" for workers in WORKERS) + " |")
    print("|---" * (len(WORKERS) + 1) + "|")
    for kind in kinds:
        row = " | ".join(f"{best[kind, workers]:.1f}" for workers in WORKERS)
        print(f"| {kind} | {row} |")


if __name__ == "__main__":
    main()
