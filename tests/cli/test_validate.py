"""shelleval validate, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.validation.rows import FAULTY, SOUND, WARNED


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SHELLEVAL_")]:
        monkeypatch.delenv(name)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest_shelleval.cli.main", "validate", *arguments]


def validate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def write(folder: Path, *rows: dict[str, Any], name: str = "tasks.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_sound_dataset(tmp_path: Path) -> None:
    write(tmp_path, SOUND[0], SOUND[3])
    done = validate("tasks.jsonl", "-j", "1", "--json", "report.json", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == (
        "tasks.jsonl: 2 rows: 2 sound, 0 faulty, 0 with warnings"
    )
    assert "1 row without gold_command" in done.stdout
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["sound"], found["findings"], found["complete"]) == (2, [], True)
    assert found["sandbox"]["kind"] == "local"


def test_faulty_rows_of_two_datasets(tmp_path: Path) -> None:
    write(tmp_path, SOUND[0], FAULTY["true"][0])
    write(tmp_path, FAULTY["no-condition"][0], SOUND[1], FAULTY["wrong-gold"][0], name="b.jsonl")
    names = ("tasks.jsonl", "b.jsonl")
    done = validate(*names, "--json=-", "--max-samples=2", cwd=tmp_path)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [(each["source"], each["kind"]) for each in found["findings"]] == [
        ("b.jsonl:1", "row"),
        ("tasks.jsonl:2", "passes-undone"),
    ]
    assert (found["rows"], found["faulty"], found["sound"]) == (4, 2, 2)


def test_strict_and_the_steps_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, WARNED["hollow"][0], FAULTY["needs-shared"][0])
    assert validate("tasks.jsonl", cwd=tmp_path).returncode == 0
    assert validate("tasks.jsonl", "--strict", cwd=tmp_path).returncode == 1
    monkeypatch.setenv("SHELLEVAL_STEPS", "separate")
    done = validate("tasks.jsonl", cwd=tmp_path)
    assert done.returncode == 1
    assert "tasks.jsonl:2 needs-shared: passes with steps shared" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "shelleval: dataset nowhere.jsonl: no such file or folder"),
        (["empty.jsonl"], "shelleval: dataset empty.jsonl: there are no rows in it"),
        (["tasks.jsonl", "--command-timeout=soon"], "shelleval: --command-timeout: seconds"),
        (["tasks.jsonl", "--sandbox=vm"], "shelleval: --sandbox: one of auto, local"),
        (["tasks.jsonl", "--rootfs=nowhere"], "nowhere"),
        (["tasks.jsonl", "--json=no/folder/x.json"], "shelleval: can't write no/folder/x.json"),
        (["tasks.jsonl", "-j0"], "a number of at least 1 is expected"),
        ([], "dataset"),
    ],
)
def test_wrong_input(tmp_path: Path, arguments: list[str], message: str) -> None:
    write(tmp_path, SOUND[0])
    write(tmp_path, name="empty.jsonl")
    done = validate(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


def read_until(terminal: int, text: str) -> str:
    seen, deadline = "", time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 4096).decode()
    return seen


def test_interrupted_it_says_what_it_has_found(tmp_path: Path) -> None:
    write(tmp_path, FAULTY["true"][0], FAULTY["hangs"][0])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("tasks.jsonl", "--steps=separate", "-j2"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    os.close(theirs)
    # the condition that hangs would take a minute
    seen = read_until(ours, "1 faulty")
    assert "shelleval validate [" in seen
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == 1
    assert re.search(r"^PARTIAL: interrupted; [01] of 2 rows were tried completely$", stdout, re.M)
    assert "tasks.jsonl:1 true: it ends in `true`" in stdout
