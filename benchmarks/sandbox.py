"""The full life of a local sandbox beside the same three steps in plain bash: ratios of one run.

    python benchmarks/sandbox.py [lives]

All are measured in turn, so that a busy machine disturbs all. ``cold`` makes its sandbox, ``spare
ready`` is from acquiring one made ahead to the verdict, ``back to back`` is one life after another.
Processor time is that of everything started here, and needs a control group of one's own: as root,
where one can be made. A Docker image is named by SHELLEVAL_BENCHMARK_IMAGE.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from processor import processor_clock

from pytest_shelleval.sandboxes.local.provider import LocalProvider, LocalSandbox

SETUP, COMMAND, CHECK = "mkdir -p d; echo hi > d/f", "cp d/f d/g", "test -f d/g"
# Plain bash gets what a sandbox's shells have: reading a locale is a part of its start.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
HOT_PAUSE = 0.05


def shells() -> None:
    """The three steps, each one bash, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        for text in (SETUP, COMMAND, CHECK):
            arguments = ["bash", "-c", f'cd "$0"; {text}', folder]
            assert os.waitpid(os.posix_spawn("/bin/bash", arguments, ENVIRONMENT), 0)[1] == 0


def bubblewrap() -> None:
    """The three steps in one life of bwrap: a session's shell, and two beside it."""
    line = "bwrap --unshare-all --die-with-parent --ro-bind /usr /usr --symlink usr/bin /bin"
    line += " --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev"
    text = "; ".join(f"bash -c {shlex.quote(each)}" for each in (SETUP, COMMAND, CHECK))
    arguments = [*line.split(), "--tmpfs", "/home", "--chdir", "/home", "bash", "-c", text]
    program = shutil.which("bwrap") or "bwrap"
    assert os.waitpid(os.posix_spawn(program, arguments, ENVIRONMENT), 0)[1] == 0


def container(image: str) -> None:
    """The three steps in a container, by Docker's own command."""
    docker = ["docker", "run", "-d", "--rm", "--network=none", image, "sleep", "600"]
    name = subprocess.check_output(docker, text=True).strip()
    try:
        for text in (SETUP, COMMAND, CHECK):
            subprocess.run(["docker", "exec", name, "bash", "-c", text], check=True)
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, stdout=subprocess.DEVNULL)


def steps(sandbox: LocalSandbox, snapshot: bytes | None = None) -> None:
    if snapshot is None:
        sandbox.exec(SETUP, timeout=30)
    else:
        sandbox.restore(snapshot)
    sandbox.exec_session(COMMAND, timeout=30)
    assert sandbox.exec(CHECK, timeout=30).exit_code == 0


def life(provider: LocalProvider, snapshot: bytes | None = None) -> None:
    sandbox = provider.acquire()
    steps(sandbox, snapshot)
    sandbox.close()


def hot(provider: LocalProvider) -> float:
    """From acquiring a sandbox that is ready to the verdict; returns these seconds."""
    time.sleep(HOT_PAUSE)
    start = time.perf_counter()
    sandbox = provider.acquire()
    steps(sandbox)
    taken = time.perf_counter() - start
    sandbox.close()
    return taken


def worker(lives: int, ready: Any, go: Any) -> None:
    # One after another: made ahead, a single worker's sandboxes keep more than one core busy.
    provider = LocalProvider(pool_size=0)
    life(provider)
    ready.release()
    go.wait()
    for _ in range(lives):
        life(provider)
    ready.release()
    provider.close()


def throughput(workers: int, lives: int) -> float:
    """Lives per second of so many processes."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    running = [context.Process(target=worker, args=(lives, ready, go)) for _ in range(workers)]
    for each in running:
        each.start()
    for _ in running:
        ready.acquire()
    start = time.perf_counter()
    go.set()
    for _ in running:
        ready.acquire()
    taken = time.perf_counter() - start
    for each in running:
        each.join()
    return workers * lives / taken


def main() -> None:
    lives = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    # Before anything is started: all of it is counted.
    with processor_clock() as processor:
        cold, spare = LocalProvider(pool_size=0), LocalProvider(pool_size=1)
        first = time.perf_counter()
        cold.acquire().close()
        print(f"first sandbox {1000 * (time.perf_counter() - first):.1f} ms")
        model = cold.acquire()
        model.exec(SETUP, timeout=30)
        snapshot = model.snapshot()
        model.close()
        works: dict[str, Callable[[], float | None]] = {
            "plain bash": lambda: shells(),
            "cold": lambda: life(cold),
            "back to back": lambda: life(spare),
            "spare ready": lambda: hot(spare),
            "cold, snapshot": lambda: life(cold, snapshot),
        }
        if shutil.which("bwrap"):
            works["bwrap"] = bubblewrap
        else:
            print("bwrap is not installed")
        image = os.environ.get("SHELLEVAL_BENCHMARK_IMAGE", "shelleval-sandbox:latest")
        found = ["docker", "image", "inspect", image]
        if shutil.which("docker") and not subprocess.run(found, capture_output=True).returncode:
            works["container"] = lambda: container(image)
        else:
            print(f"no Docker engine with the image {image} answers")
        walls: dict[str, list[float]] = {name: [] for name in works}
        processors: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(lives):
            for name, work in works.items():
                used, start = processor(), time.perf_counter()
                taken = work()
                walls[name].append(taken or time.perf_counter() - start)
                time.sleep(0.02)  # for what ends, and is made ahead, afterwards
                processors[name].append(processor() - used)
        cold.close()
        spare.close()
    base = statistics.median(walls["plain bash"]), statistics.median(processors["plain bash"])
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, medians of {lives} lives")
    print(f"{'':16}{'wall ms':>9}{'ratio':>7}{'least':>9}{'processor ms':>14}{'ratio':>7}")
    for name in works:
        wall, used = statistics.median(walls[name]), statistics.median(processors[name])
        print(
            f"{name:16}{1000 * wall:9.2f}{wall / base[0]:7.2f}{1000 * min(walls[name]):9.2f}"
            f"{1000 * used:14.2f}{used / base[1]:7.2f}"
        )
    rates = {number: throughput(number, 2 * lives) for number in (1, 2)}
    print("lives/s " + ", ".join(f"{number} workers {rate:.0f}" for number, rate in rates.items()))
    print(f"ratio of two workers to one: {rates[2] / rates[1]:.2f}")


if __name__ == "__main__":
    main()
