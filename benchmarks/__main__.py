"""All benchmarks, one after another, as ratios within each run.

    python benchmarks [--quick] [--output FILE]

What each prints goes to the terminal and, as Markdown, to FILE (benchmarks/RESULTS.md). On a quiet
machine it takes some ten minutes, with --quick three.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# script -> arguments, and those of --quick
SCRIPTS: dict[str, tuple[list[str], list[str]]] = {
    "sandbox.py": ([], ["40"]),
    "backends.py": ([], ["--seconds", "1", "--rounds", "1"]),
    "inference.py": ([], []),
    "overhead.py": ([], []),
    "peers.py": ([], ["--tasks", "60", "--rounds", "2"]),
}


def machine() -> str:
    """What the figures depend on beside the code."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (
        f"{date.today()}, {os.cpu_count()} cores, {memory} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks", description="Run all benchmarks.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--output", type=Path, default=FOLDER / "RESULTS.md")
    asked = parser.parse_args()
    parts = [f"# Benchmarks\n\n{machine()}\n"]
    failed = 0
    for script, arguments in SCRIPTS.items():
        print(f"--- {script}", flush=True)
        command = [sys.executable, str(FOLDER / script), *arguments[asked.quick]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, flush=True)
        failed += done.returncode != 0
        text = done.stdout if "|---" in done.stdout else f"```\n{done.stdout}```\n"
        parts.append(f"## {script}\n\n{text}")
    asked.output.write_text("\n".join(parts))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
