"""Folders of runs: removed by the run, or found by the next where it could not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_shelleval.core.scratch import Scratch, left_behind

KILLED = """
import os, signal
from pytest_shelleval.core.scratch import Scratch
print(Scratch("inner").path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_process_left_is_found(temporary: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, check=False
    )
    folder = Path(done.stdout.strip())
    assert (folder / "inner").is_dir()
    first = left_behind()
    assert next(first) == folder
    assert list(left_behind()) == []  # another run looks at it
    first.close()  # type: ignore[attr-defined]
    assert list(left_behind()) == [folder]


def test_one_in_use_and_what_is_not_ours_stay(temporary: Path) -> None:
    used = Scratch()
    (temporary / "shelleval-run-mine").mkdir()
    (temporary / "shelleval-run-file").touch()
    (temporary / "shelleval-run-link").symlink_to("/")
    assert list(left_behind()) == []
    used.remove()
    used.remove()
    assert not used.path.exists()


def test_a_process_that_was_forked_does_not_hold_it() -> None:
    scratch = Scratch()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"x")
        signal.alarm(60)
        signal.pause()
    try:
        os.read(reading, 1)  # it runs
        scratch._forget()  # as when this process ends
        assert list(left_behind()) == [scratch.path]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
