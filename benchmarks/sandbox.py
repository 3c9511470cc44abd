"""The full life of a local sandbox beside the same three steps in plain bash: ratios of one run.

    python benchmarks/sandbox.py [lives]

Both are measured in turn, so that a busy machine disturbs both. Processor time is that of everything
started here, and needs a control group of one's own: as root, where one can be made.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_shelleval.sandboxes.local.provider import LocalProvider

SETUP, COMMAND, CHECK = "mkdir -p d; echo hi > d/f", "cp d/f d/g", "test -f d/g"
BATCH = 10


@contextlib.contextmanager
def processor_clock() -> Iterator[Callable[[], float]]:
    """Processor seconds of this process and all that it starts, also of what others reap."""
    for root, usage, unit in (
        ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", 1e9),
        ("/sys/fs/cgroup", "cpu.stat", 1e6),
    ):
        group = Path(root) / f"benchmark-{os.getpid()}"
        try:
            group.mkdir()
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            continue
        file = group / usage

        def read(file: Path = file, unit: float = unit) -> float:
            words = file.read_text().split()
            return int(words[0] if len(words) == 1 else words[1]) / unit

        try:
            yield read
        finally:
            Path(root, "cgroup.procs").write_text(str(os.getpid()))
            with contextlib.suppress(OSError):
                group.rmdir()
        return
    yield lambda: float("nan")


def plain() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for text in (SETUP, COMMAND, CHECK):
            arguments = ["bash", "-c", f'cd "$0"; {text}', folder]
            status = os.waitpid(
                os.posix_spawn("/bin/bash", arguments, {"PATH": "/usr/bin:/bin"}), 0
            )
            assert status[1] == 0


def main() -> None:
    lives = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    parts: dict[str, list[float]] = {name: [] for name in ("acquire", "setup", "command", "check")}

    def life() -> None:
        times = [time.perf_counter()]
        sandbox = provider.acquire()
        times.append(time.perf_counter())
        sandbox.exec(SETUP, timeout=30)
        times.append(time.perf_counter())
        sandbox.exec_session(COMMAND, timeout=30)
        times.append(time.perf_counter())
        assert sandbox.exec(CHECK, timeout=30).exit_code == 0
        times.append(time.perf_counter())
        sandbox.close()
        for name, start, end in zip(parts, times, times[1:], strict=False):
            parts[name].append(end - start)

    walls: dict[str, list[float]] = {"plain bash": [], "local sandbox": []}
    processors: dict[str, list[float]] = {name: [] for name in walls}
    with processor_clock() as processor:
        started = time.perf_counter()
        provider = LocalProvider()
        provider.acquire().close()
        print(f"first sandbox {1000 * (time.perf_counter() - started):.1f} ms")
        for _ in range(max(1, lives // BATCH)):
            for name, work in (("plain bash", plain), ("local sandbox", life)):
                wall, used = time.perf_counter(), processor()
                for _ in range(BATCH):
                    work()
                walls[name].append((time.perf_counter() - wall) / BATCH)
                time.sleep(0.02)  # for what ends, and is made ahead, after the last life
                processors[name].append((processor() - used) / BATCH)
        provider.close()
    for name in walls:
        wall, used = statistics.median(walls[name]), statistics.median(processors[name])
        print(f"{name:14} wall {1000 * wall:6.2f} ms   processor {1000 * used:6.2f} ms")
    for label, of in (("wall", walls), ("processor", processors)):
        ratio = statistics.median(of["local sandbox"]) / statistics.median(of["plain bash"])
        print(f"ratio, {label}: {ratio:.2f}")
    print("  ".join(f"{name} {1000 * statistics.median(of):.2f} ms" for name, of in parts.items()))


if __name__ == "__main__":
    main()
