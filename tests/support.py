"""Runs pytest with the plugin, as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODES: dict[str, tuple[str, ...]] = {
    "n0": ("-n", "0"),
    "n2": ("-n", "2"),
    "no-xdist": ("-p", "no:xdist"),
}

ROWS: list[dict[str, Any]] = [
    {
        "task_id": "make-file",
        "task": "Create a file named hello.txt with content Hello World",
        "success_condition": "grep -qx 'Hello World' hello.txt",
        "gold_command": "echo 'Hello World' > hello.txt",
        "tags": ["files", "easy"],
        "difficulty_level": "easy",
    },
    {
        "task_id": "copy",
        "task": "Copy a.txt to b.txt",
        "setup_commands": ["echo a > a.txt"],
        "success_condition": "cmp a.txt b.txt",
        "gold_command": "cp a.txt b.txt",
        "tags": ["files"],
    },
    {
        "task_id": "count",
        "task": "Count the lines of a.txt into n.txt",
        "setup_commands": "seq 7 > a.txt",
        "success_condition": '[ "$(cat n.txt)" = 7 ]',
        "gold_command": "wc -l < a.txt > n.txt",
        "tags": ["text"],
        "difficulty_level": "hard",
    },
]


class Crowd:
    """Processes that never sleep, each a session of its own, as the scheduler shares by session."""

    def __init__(self) -> None:
        self._all = [
            subprocess.Popen(
                [sys.executable, "-S", "-c", "while True: pass"], start_new_session=True
            )
            for _ in range(20 * len(os.sched_getaffinity(0)))
        ]

    def disperse(self) -> None:
        for each in self._all:
            each.kill()
        for each in self._all:
            each.wait()


class Evaluation:
    """A folder with a dataset, and pytest runs in it."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.folder = pytester.path
        for name in list(os.environ):
            if name.startswith(("SHELLEVAL_", "OPENAI_", "PYTEST_XDIST", "PYTEST_ADDOPTS")):
                monkeypatch.delenv(name)
        # only the plugins that a test names: the others make every start slower
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        self.rows(*ROWS)

    def rows(self, *rows: dict[str, Any], name: str = "tasks.jsonl") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def command(self, *args: str, dataset: str | None = "tasks.jsonl") -> list[str]:
        plugins = ["-p", "pytest_shelleval.plugin"]
        plugins += [] if "no:xdist" in args else ["-p", "xdist"]
        named = [] if dataset is None else [f"--shelleval-dataset={dataset}"]
        return [sys.executable, "-m", "pytest", *plugins, *named, *args]

    def run(self, *args: str, dataset: str | None = "tasks.jsonl") -> pytest.RunResult:
        return self.pytester.run(*self.command(*args, dataset=dataset), timeout=120)

    @property
    def output(self) -> Path:
        return self.folder / "evaluation_results"

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.output / name
        text = path.read_text() if path.exists() else ""
        assert not text or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def statuses(self) -> dict[str, str]:
        lines = self.lines("results.jsonl")
        assert len({line["task_id"] for line in lines}) == len(lines)
        return {line["task_id"]: line["status"] for line in lines}

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "summary.json").read_text())
        return found
