"""The command shelleval, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_shelleval import __version__
from pytest_shelleval.sandboxes.local.probe import probe
from tests.support import ROWS, Evaluation


def shelleval(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_shelleval.cli.main", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def evaluation(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    return Evaluation(pytester, monkeypatch)


def test_help_and_version() -> None:
    done = shelleval("--help")
    for name in ("doctor", "report", "compare", "reproduce", "serve", "validate"):
        assert re.search(rf"^    {name}\b", done.stdout, re.MULTILINE)
    assert shelleval("--version").stdout == f"pytest-shelleval {__version__}\n"


def test_doctor_says_what_it_tried_in_one_screen() -> None:
    done = shelleval("doctor")
    lines = done.stdout.splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    works = probe().ok
    assert done.returncode == (0 if works else 1)
    assert ("local     works" in done.stdout) == works
    assert f"uid {os.getuid()}" in done.stdout


def test_doctor_says_what_to_type_where_namespaces_are_denied() -> None:
    # a process that may make no namespaces: what a container's default profile does
    code = (
        "import sys; sys.argv[1:] = ['doctor']\n"
        "from pytest_shelleval.sandboxes.local import probe\n"
        "from pytest_shelleval.cli import main as cli\n"
        "probe.probe = lambda: probe.diagnosis({'stage': 'user namespace', 'errno': 1,"
        " 'error': 'unshare: Operation not permitted'})\n"
        "sys.exit(cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "local     does not work here" in done.stdout
    assert "Operation not permitted" in done.stdout
    assert "--shelleval-sandbox=docker" in done.stdout


def test_compare_and_report(evaluation: Evaluation) -> None:
    evaluation.run("--shelleval-model=oracle", "--shelleval-output-dir=a")
    evaluation.rows(*ROWS[:2], {**ROWS[2], "gold_command": "true"})
    evaluation.run("--shelleval-model=oracle", "--shelleval-output-dir=b")
    done = shelleval("compare", "a", "b", cwd=evaluation.folder)
    assert done.returncode == 0
    assert "count" in done.stdout
    found = json.loads(shelleval("compare", "a", "b", "--json", cwd=evaluation.folder).stdout)
    assert "broken" in json.dumps(found)
    page = evaluation.folder / "b" / "report.html"
    page.unlink()
    done = shelleval("report", "b", "--baseline", "a", cwd=evaluation.folder)
    assert done.stdout.strip() == "b/report.html"
    assert page.is_file()


@pytest.mark.parametrize("arguments", [("report", "nowhere"), ("compare", "nowhere", "there")])
def test_what_is_not_there_is_named(arguments: tuple[str, ...]) -> None:
    done = shelleval(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("shelleval: nowhere: no such file")
    assert "Traceback" not in done.stderr
