"""A run over three machines of which one is cut off: is every result there, once?

    python benchmarks/machines.py [--tasks 300] [--cut-after 100] [--workers 1] [--killed]

The machines are network namespaces on one bridge, each with a /tmp of its own and a real sshd; none
sees the dataset or the output folder. After so many results the cable of the second is pulled, or
with ``--killed`` the worker there is killed by SIGKILL. Needs root, ip and sshd. What it prints:
results, tasks among them, passed, replies of the model, seconds, and what is left on the machines.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.hosts import Hosts, missing, wait_until  # noqa: E402

ROW = {
    "task": "Write the number of lines of a.txt into n.txt",
    "setup_commands": "seq 7 > a.txt",
    "success_condition": '[ "$(cat n.txt)" = 7 ]',
    "gold_command": "sleep 0.2; wc -l < a.txt > n.txt",
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run(hosts: Hosts, folder: Path, asked: argparse.Namespace) -> dict[str, object]:
    rows = [{**ROW, "task_id": f"t{number}"} for number in range(asked.tasks)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "pytest", "-p", "pytest_shelleval.plugin", "-p", "xdist"]
    command += ["-d", "--shelleval-dataset=tasks.jsonl", "--shelleval-model=oracle"]
    command += [hosts.spec(number, workers=asked.workers) for number in (1, 2, 3)]
    environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    started = time.monotonic()
    process = subprocess.Popen(
        hosts.here(*command),
        cwd=folder,
        env={**os.environ, **environment},
        stdout=None if asked.verbose else subprocess.DEVNULL,
    )
    results = folder / "evaluation_results" / "results.jsonl"

    def enough() -> bool:
        assert process.poll() is None, "the run ended before a machine could be cut off"
        return results.exists() and results.read_bytes().count(b"\n") >= asked.cut_after

    wait_until(enough, 600)
    if asked.killed:
        hosts.output(2, "pkill -9 python")
    else:
        hosts.cut(2)
    status = process.wait()
    found = lines(results)
    summary = json.loads((results.parent / "summary.json").read_text())
    others = (1, 3) if not asked.killed else (1, 2, 3)
    return {
        "exit status": status,
        "results": len(found),
        "tasks among them": len({line["task_id"] for line in found}),
        "passed": sum(line["status"] == "passed" for line in found),
        "complete": summary["complete"],
        "by worker": dict(Counter(line["worker"] for line in found)),
        "replies": len(lines(results.parent / "commands.jsonl")),
        "lines of debug.log": (results.parent / "debug.log").read_bytes().count(b"\n"),
        "seconds": round(time.monotonic() - started, 1),
        "left in /tmp": [hosts.output(n, "ls -d /tmp/shelleval-* || true").split() for n in others],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="A run over machines of which one is cut off.")
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--cut-after", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1, help="on each machine")
    parser.add_argument("--killed", action="store_true", help="kill the worker, leave the cable")
    parser.add_argument("--verbose", action="store_true", help="show what pytest prints")
    asked = parser.parse_args()
    if missing():
        print(f"can't be tried here: {missing()}")
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        folder.mkdir()
        (Path(name, "hosts")).mkdir()
        with Hosts(3, Path(name, "hosts")) as hosts:
            found = run(hosts, folder, asked)
    for key, value in found.items():
        print(f"{key:18} {value}")
    return 0 if found["results"] == found["tasks among them"] == asked.tasks else 1


if __name__ == "__main__":
    sys.exit(main())
