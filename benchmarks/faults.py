"""Kills runs at random moments of both phases, and counts what was lost, doubled or left behind.

    python benchmarks/faults.py [--times 50] [--seconds 240] [--seed 1]

Each try starts a run of 12 tasks with two workers and kills one process of it: the controller, a
worker, the zygote of a worker, or pid 1 of a sandbox. Then every file is read, and the same command
with ``--shelleval-resume`` has to finish the work. A table says for each kind of process and phase:
tried, survived (the resumed run finished), lost (results that were whole before the kill and are not
there after it, or commands), duplicated (lines of one task), left behind (processes). A process that was
not there at the moment chosen is no try.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TASKS = 12
KINDS = ("controller", "worker", "zygote", "pid 1")
COLUMNS = ("tried", "survived", "lost", "duplicated", "left behind")

MODEL = """
import asyncio

class Slow:
    async def generate(self, request):
        await asyncio.sleep(0.1)
        return request.task.gold_command

def pytest_shelleval_model(name, settings):
    return Slow()
"""


def prepare(folder: Path, mark: str) -> None:
    """A dataset whose commands carry *mark*, and a model that takes its time."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(MODEL)
    row = {"task": "Make a", "success_condition": "test -e a", "setup_commands": ["true"]}
    rows = [
        {**row, "task_id": f"t{n}", "gold_command": f"sleep {mark}; touch a"} for n in range(TASKS)
    ]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))


def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """A run in *folder*, told from others by its temporary folder."""
    flags = ["-p", "pytest_shelleval.plugin", "-p", "xdist", "-p", "no:cacheprovider", "-n", "2"]
    flags += [
        "--shelleval-dataset=tasks.jsonl",
        "--shelleval-model=slow",
        "--shelleval-fail-under=0",
    ]
    flags += ["--shelleval-inference-concurrency=2", *more]
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    settings = {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *flags],
        cwd=folder,
        env=os.environ | settings | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def children(pid: int) -> list[int]:
    """Processes that *pid* started."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def victim(controller: int, kind: str) -> int | None:
    """A process of *kind*, if there is one now."""
    found = [controller]
    for _ in range(KINDS.index(kind)):
        found = [child for pid in found for child in children(pid)]
    return random.choice(found) if found else None


def ids(path: Path) -> list[str]:
    """Task of each whole line; raises ValueError for one that does not parse."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line)["task_id"] for line in whole.splitlines()]


def left_behind(folder: Path, mark: str) -> list[int]:
    """Processes of the run that are still there, after 15 s at most."""
    deadline = time.monotonic() + 15
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (entry / "cmdline").read_bytes()
                ours = f"={folder}/temporary\0".encode() in (entry / "environ").read_bytes()
            except OSError:
                continue
            if arguments and (ours or mark.encode() in arguments):
                found.append(int(entry.name))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def one_try(kind: str, phase: int, number: int) -> Counter[str]:
    """Kill a process of *kind* in *phase*, and see. Nothing where there was none to kill."""
    mark = f"0.1{os.getpid():07d}{number:04d}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, mark)
        files = [
            folder / "evaluation_results" / f"{each}.jsonl" for each in ("commands", "results")
        ]
        process = start(folder)
        while process.poll() is None and not ids(files[phase - 1]):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.4))
        before = [set(ids(path)) for path in files]
        in_phase = phase == 2 or not before[1]
        pid = victim(process.pid, kind) if process.poll() is None and in_phase else None
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        process.wait(120)
        if pid is None:
            return Counter()
        found = Counter({"tried": 1, "left behind": len(left_behind(folder, mark))})
        after = [ids(path) for path in files]
        found["lost"] = sum(len(a - set(b)) for a, b in zip(before, after, strict=True))
        found["duplicated"] = sum(len(each) - len(set(each)) for each in after)
        again = start(folder, "--shelleval-resume")
        finished = again.wait(120) == 0
        done = [json.loads(line) for line in files[1].read_text().splitlines()]
        passed = {line["task_id"] for line in done if line["status"] == "passed"}
        found["survived"] = int(finished and len(passed) == len(done) == TASKS)
        found["left behind"] += len(left_behind(folder, mark))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random.seed(given.seed)
    # in phase 1 there are no sandboxes yet
    cases = [("controller", 1), ("worker", 1), *((kind, 2) for kind in KINDS)]
    table: dict[tuple[str, int], Counter[str]] = {case: Counter() for case in cases}
    begun = time.monotonic()
    for number in range(given.times):
        if time.monotonic() - begun > given.seconds:
            break
        kind, phase = cases[number % len(cases)]
        table[kind, phase] += one_try(kind, phase, number)
    print(f"{'killed':<22}" + "".join(f"{name:>12}" for name in COLUMNS))
    total: Counter[str] = Counter()
    for (kind, phase), counts in table.items():
        total += counts
        print(
            f"{f'{kind}, phase {phase}':<22}" + "".join(f"{counts[name]:>12}" for name in COLUMNS)
        )
    print(f"{'all':<22}" + "".join(f"{total[name]:>12}" for name in COLUMNS))
    if total["survived"] < total["tried"] or any(total[name] for name in COLUMNS[2:]):
        sys.exit(1)


if __name__ == "__main__":
    main()
