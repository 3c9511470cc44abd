"""What the plugin costs beside pytest: per item at scale, and in runs that do not use it.

    python benchmarks/overhead.py [--rows 5000,20000] [--workers 0,2] [--rounds 3]

A dataset whose sandbox does nothing is measured in turn with as many parametrised tests that do
nothing. What is left is the plugin's: reading rows, phase 1, fixtures, results, summary and report.
Memory is the peak of each process (controller, workers), and its slope between the smallest and the
largest number of rows. Start-up is ``pytest --version`` and a folder with one test, with the plugin
and without it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent

PEAKS = """
import json, os
from pathlib import Path

def pytest_unconfigure(config):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    name = os.environ.get("PYTEST_XDIST_WORKER", "controller")
    peak = int(status["VmHWM"].split()[0])
    Path(f"peak-{name}.json").write_text(json.dumps(peak))
"""

STUB = """
import pytest
from pytest_shelleval.core.sandbox import ExecResult

class Nothing:
    id = "stub"
    info = {"kind": "stub", "id": "stub"}

    def exec(self, text, *, timeout, cwd=None):
        return ExecResult("", 0)

    def exec_session(self, text, *, timeout):
        return ExecResult("", 0)

    def acquire(self):
        return self

    def close(self):
        pass

@pytest.fixture(scope="session")
def shelleval_sandboxes():
    return Nothing()
"""

TRIVIAL = """
import pytest

@pytest.mark.parametrize("number", range({rows}))
def test_nothing(number):
    pass
"""


@dataclass
class Measured:
    """One run of pytest."""

    seconds: float
    processor: float
    peaks: dict[str, int] = field(default_factory=dict)
    """kB by process."""


def write_rows(path: Path, rows: int) -> None:
    """A dataset of *rows* tasks, each about as long as those that people write."""
    with path.open("w") as file:
        for number in range(rows):
            row = {
                "task_id": f"task-{number}",
                "task": f"Count the lines of the file notes-{number}.txt and write the number of "
                f"them into a new file total-{number}.txt beside it",
                "setup_commands": [f"seq {number} > notes-{number}.txt"],
                "success_condition": f'[ "$(cat total-{number}.txt)" = {number} ]',
                "gold_command": f"wc -l < notes-{number}.txt > total-{number}.txt",
                "tags": ["text"],
                "difficulty_level": "easy",
            }
            file.write(json.dumps(row) + "\n")


def run(folder: Path, *args: str) -> Measured:
    """Run pytest in *folder*."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("SHELLEVAL_")
    }
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    for left in folder.glob("peak-*.json"):
        left.unlink()
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider", *args]
    before, begun = os.times(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    seconds, after = time.perf_counter() - begun, os.times()
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout.decode()}{done.stderr.decode()}")
    processor = sum(after[2:4]) - sum(before[2:4])
    peaks = {
        path.stem.removeprefix("peak-"): int(path.read_text())
        for path in sorted(folder.glob("peak-*.json"))
    }
    return Measured(seconds, processor, peaks)


def measure_items(rows: int, workers: str) -> tuple[Measured, Measured]:
    """The plugin with *rows* rows, and pytest with as many tests."""
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Path(name, "ours"), Path(name, "theirs")
        for folder in (ours, theirs):
            folder.mkdir()
            (folder / "pytest.ini").write_text("[pytest]\n")
        (ours / "conftest.py").write_text(PEAKS + STUB)
        write_rows(ours / "tasks.jsonl", rows)
        (theirs / "conftest.py").write_text(PEAKS)
        (theirs / "test_nothing.py").write_text(TRIVIAL.format(rows=rows))
        flags = ("-p", "pytest_shelleval.plugin", "--shelleval-dataset=tasks.jsonl")
        plain = run(theirs, "-q", "-n", workers)
        used = run(ours, *flags, "--shelleval-model=oracle", "-q", "-n", workers)
        with (ours / "evaluation_results" / "results.jsonl").open("rb") as file:
            assert sum(1 for _ in file) == rows
        return used, plain


def slopes(small: Measured, large: Measured, rows: int) -> dict[str, float]:
    """Growth of each process's peak, kB a row."""
    return {
        name: round((large.peaks[name] - small.peaks[name]) / rows, 2)
        for name in large.peaks
        if name in small.peaks
    }


def report_items(sizes: list[int], workers: str) -> Iterator[str]:
    """A line per size, then the growth of memory."""
    found = {rows: measure_items(rows, workers) for rows in sizes}
    for rows, (ours, plain) in found.items():
        wall = 1000 * (ours.seconds - plain.seconds) / rows
        used = 1000 * (ours.processor - plain.processor) / rows
        yield (
            f"-n {workers}, {rows:,} rows: {ours.seconds:.1f} s, trivial tests {plain.seconds:.1f} s "
            f"(ratio {ours.seconds / plain.seconds:.2f}); own cost per item {wall:.2f} ms wall, "
            f"{used:.2f} ms processor; peak MB "
            + ", ".join(
                f"{name} {peak / 1024:.0f} ({plain.peaks[name] / 1024:.0f})"
                for name, peak in ours.peaks.items()
            )
        )
    if len(sizes) > 1:
        first, last = min(sizes), max(sizes)
        grown = [slopes(found[first][n], found[last][n], last - first) for n in (0, 1)]
        for name, own in grown[0].items():
            yield f"-n {workers}, {name}: {own} kB a row (trivial tests {grown[1].get(name)} kB)"


def report_start(rounds: int) -> Iterator[str]:
    """What the plugin adds to runs that do not use it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_one.py").write_text("def test_one():\n    pass\n")
        for title, args in (("pytest --version", ("--version",)), ("one test", ("-q",))):
            times: dict[bool, list[float]] = {False: [], True: []}
            for number in range(2 * rounds):
                for used in (False, True) if number % 2 else (True, False):
                    plugin = ("-p", "pytest_shelleval.plugin") if used else ()
                    times[used].append(run(folder, *plugin, *args).seconds)
            without, used_too = (1000 * statistics.median(times[used]) for used in (False, True))
            yield (
                f"{title}: {without:.0f} ms without the plugin, {used_too:.0f} ms with it "
                f"(ratio {used_too / without:.3f})"
            )
    code = (
        "import pytest, time; t = time.perf_counter(); import pytest_shelleval.plugin; "
        "print(time.perf_counter() - t)"
    )
    command = [sys.executable, "-c", code]
    imports = [
        float(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)
        for _ in range(2 * rounds)
    ]
    yield f"import of the plugin, after pytest: {1000 * statistics.median(imports):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="5000,20000")
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.rounds:
        for line in report_start(given.rounds):
            print(line, flush=True)
    for workers in filter(None, given.workers.split(",")):
        for line in report_items([int(rows) for rows in given.rows.split(",")], workers):
            print(line, flush=True)


if __name__ == "__main__":
    main()
