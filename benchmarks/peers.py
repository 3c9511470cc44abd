"""The whole job beside what else one might take for it: the same tasks, the same commands.

    python benchmarks/peers.py [--tasks 200] [--rounds 5] [--folder PLACE]

Each peer gets a virtual environment of its own, made in the folder and kept for the next time. All
of them write a file in a setup, run a command that the built-in or mock model gives, check its
outcome with a third shell, and report the pass rate; they take turns, so that a busy machine
disturbs all. Only pytest-shelleval isolates what it runs: the others' "local" is a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from processor import processor_clock

PROJECT = Path(__file__).resolve().parent.parent
SETUP, COMMAND, CHECK = "mkdir -p d; echo {} > d/f", "cp d/f d/g", "cmp d/f d/g"

PLAIN = """
import json, subprocess
from pathlib import Path
import pytest

ROWS = [json.loads(line) for line in Path(__file__).with_name("tasks.jsonl").open()]

@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["task_id"])
def test_row(row, tmp_path):
    for text in (*row["setup_commands"], row["gold_command"], row["success_condition"]):
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, timeout=60)
        assert done.returncode == 0
"""
INSPECT = """
import json
from pathlib import Path
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, scorer
from inspect_ai.solver import generate
from inspect_ai.util import sandbox

ROWS = [json.loads(line) for line in Path("tasks.jsonl").open()]

@scorer(metrics=[accuracy()])
def condition():
    async def score(state, target):
        row = state.metadata
        for text in (*row["setup_commands"], state.output.completion, row["success_condition"]):
            done = await sandbox().exec(["bash", "-c", text], timeout=60)
            if not done.success:
                return Score(value=INCORRECT)
        return Score(value=CORRECT)
    return score

def reply(command):
    output = ModelOutput.from_content("mockllm/model", command)
    output.usage = ModelUsage(input_tokens=10, output_tokens=10, total_tokens=20)
    return output

if __name__ == "__main__":
    samples = [Sample(input=row["task"], metadata=row, id=row["task_id"]) for row in ROWS]
    model = get_model("mockllm/model", custom_outputs=[reply(row["gold_command"]) for row in ROWS])
    task = Task(MemoryDataset(samples), solver=generate(), scorer=condition(), sandbox="local")
    log = eval(task, model=model, display="none", log_dir="logs")[0]
    assert log.status == "success", log.error
    assert log.results.scores[0].metrics["accuracy"].value == 1
"""


@dataclass(frozen=True)
class Peer:
    """One way to do the job."""

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    """Arguments of its environment's Python."""


SHELLEVAL = ("--shelleval-dataset=tasks.jsonl", "--shelleval-model=oracle")
PEERS = (
    Peer("pytest-shelleval -n 0", (str(PROJECT),), ("-m", "pytest", "-q", *SHELLEVAL, "-n", "0")),
    Peer("pytest-shelleval -n 2", (str(PROJECT),), ("-m", "pytest", "-q", *SHELLEVAL, "-n", "2")),
    Peer(
        "pytest, subprocess -n 0",
        ("pytest==9.2.0", "pytest-xdist==3.8.0"),
        ("-m", "pytest", "-q", "test_plain.py", "-n", "0"),
    ),
    Peer(
        "pytest, subprocess -n 2",
        ("pytest==9.2.0", "pytest-xdist==3.8.0"),
        ("-m", "pytest", "-q", "test_plain.py", "-n", "2"),
    ),
    Peer("inspect-ai, local", ("inspect-ai==0.3.285",), ("run_inspect.py",)),
)


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The Python of a virtual environment with *packages*, made if it is not there."""
    name = "-".join(Path(each).name.replace("==", "-") for each in packages)
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"making {python.parent.parent}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
    if str(PROJECT) in packages or not (folder / name / "done").exists():
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        subprocess.run(install, check=True)
        (folder / name / "done").touch()
    return python


def versions(python: Path) -> str:
    """The packages that matter, with their versions."""
    text = (
        "import importlib.metadata as m; names = ['pytest-shelleval', 'pytest', 'pytest-xdist', "
        "'inspect-ai']\nfor n in names:\n try: print(n, m.version(n), end='; ')\n"
        " except m.PackageNotFoundError: pass"
    )
    return subprocess.check_output([python, "-c", text], text=True).strip("; ")


def write_job(folder: Path, tasks: int) -> None:
    """The tasks, and the peers' programs."""
    rows = (
        {
            "task_id": f"copy-{number}",
            "task": f"Copy d/f to d/g, number {number}",
            "setup_commands": [SETUP.format(number)],
            "success_condition": CHECK,
            "gold_command": COMMAND,
        }
        for number in range(tasks)
    )
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test_plain.py").write_text(PLAIN)
    (folder / "run_inspect.py").write_text(INSPECT)


def measure(folder: Path, tasks: int, rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and processor seconds of each peer, by name."""
    pythons = {peer.name: environment(folder, peer.packages) for peer in PEERS}
    for line in dict.fromkeys(map(versions, pythons.values())):
        print(line)
    found: dict[str, tuple[list[float], list[float]]] = {peer.name: ([], []) for peer in PEERS}
    for each in range(rounds + 1):  # the first warms up caches
        for peer in PEERS:
            with tempfile.TemporaryDirectory() as place, processor_clock() as processor:
                write_job(Path(place), tasks)
                used, start = processor(), time.perf_counter()
                done = subprocess.run(
                    [pythons[peer.name], *peer.command],
                    cwd=place,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                )
                taken = time.perf_counter() - start
                time.sleep(0.2)  # for what the kernel clears up afterwards
                if done.returncode:
                    sys.exit(f"{peer.name} failed:\n{done.stdout[-3000:]}")
                if each:
                    found[peer.name][0].append(taken)
                    found[peer.name][1].append(processor() - used)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir(), "shelleval-peers")
    )
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    found = measure(asked.folder.resolve(), asked.tasks, asked.rounds)
    print(
        f"{date.today()}, {asked.tasks} tasks, medians of {asked.rounds} rounds in turn, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    base = [statistics.median(each) for each in found[PEERS[1].name]]
    print("\n| | wall s | ratio | processor s | ratio |\n|---|---:|---:|---:|---:|")
    for name, (walls, used) in found.items():
        wall, cost = statistics.median(walls), statistics.median(used)
        print(f"| {name} | {wall:.2f} | {wall / base[0]:.2f} | {cost:.2f} | {cost / base[1]:.2f} |")


if __name__ == "__main__":
    main()
