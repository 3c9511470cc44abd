"""One run per output folder."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.lock import LOCK, FolderLock

HOLDER = """
import subprocess, sys, os, pathlib
from pytest_shelleval.core.lock import FolderLock
lock = FolderLock(pathlib.Path(sys.argv[1]), ["pytest", "--one"])
if os.fork() == 0:  # what a test may start; it must not hold the lock on
    sys.stdin.read()
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    first = FolderLock(folder, ["pytest", "--shelleval-model=oracle"])
    with pytest.raises(UserError) as refused:
        FolderLock(folder, ["pytest"])
    message = str(refused.value)
    assert message.startswith(f"{folder} is in use by another run: pid {os.getpid()} on ")
    assert "\n  pytest --shelleval-model=oracle\n" in message
    first.release()
    first.release()
    assert not (tmp_path / "deep").exists()  # as it was
    second = FolderLock(folder, ["pytest"])
    (folder / "results.jsonl").touch()
    second.release()
    assert os.listdir(folder) == ["results.jsonl"]


def just_before_it_locks(what: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next call that locks a file it has opened come after *what*."""
    lock = fcntl.flock

    def late(fd: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        what()
        lock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", late)


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FolderLock(tmp_path, ["first"])
    just_before_it_locks(first.release, monkeypatch)
    second = FolderLock(tmp_path, ["second"])
    with pytest.raises(UserError, match="\n  second\n"):
        FolderLock(tmp_path, ["third"])
    second.release()
    assert os.listdir(tmp_path) == []


def test_who_came_between_has_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = [FolderLock(tmp_path, ["first"])]

    def give_way() -> None:
        locks[0].release()
        locks.append(FolderLock(tmp_path, ["between"]))

    just_before_it_locks(give_way, monkeypatch)
    with pytest.raises(UserError, match="\n  between\n"):
        FolderLock(tmp_path, ["late"])
    locks[1].release()


def test_the_file_goes_while_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it may be another's by then."""
    lock, close = FolderLock(tmp_path, ["pytest"]), os.close
    there: list[bool] = []

    def closing(fd: int) -> None:
        there.append(lock.path.exists())
        close(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", closing)
        lock.release()
    assert there == [False]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_goes_with_its_process(tmp_path: Path, number: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=f"pid {holder.pid} .*\n  pytest --one\n"):
        FolderLock(tmp_path, ["pytest"])
    holder.send_signal(number)
    assert holder.wait(30) == -number
    deadline = time.monotonic() + 30
    while True:  # a child that it had just forked may not have let go yet
        try:
            FolderLock(tmp_path, ["pytest"]).release()
            break
        except UserError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    holder.communicate()  # ends the child


@pytest.mark.parametrize("kind", ["link", "link to nothing", "hard link", "pipe"])
def test_what_others_put_in_its_place_is_left_alone(kind: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    lock, target = tmp_path / "out" / LOCK, tmp_path / "target"
    if kind != "link to nothing":
        target.write_text("dear")
    if kind.startswith("link"):
        lock.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.hardlink_to(target)
    with pytest.raises(UserError, match=rf"can't write .*out/{LOCK}: it is .*; remove it"):
        FolderLock(tmp_path / "out", ["pytest"])
    assert os.listdir(tmp_path / "out") == [LOCK]
    assert not target.exists() if kind == "link to nothing" else target.read_text() == "dear"


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    lock = FolderLock(tmp_path / "out", ["pytest"])
    assert os.listdir(tmp_path / "elsewhere") == [LOCK]
    lock.release()
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"can't write .*file/{LOCK}: Not a directory"):
        FolderLock(tmp_path / "file", ["pytest"])
