"""A user who may start few processes: sandboxes with what there is, or one message that says so."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_users import ORDINARY, make_provider

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.sandboxes.base import Limits

_SOMEBODY = ORDINARY + 1  # RLIMIT_NPROC counts a user's processes, also those of other tests


@pytest.fixture
def provider_with() -> Iterator[Callable[[int], Any]]:
    made: list[Any] = []

    def make(processes: int) -> Any:
        before = ["prlimit", f"--nproc={processes}:{processes}"]
        made.append(make_provider("ordinary", Limits(), before=before, uid=_SOMEBODY))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


def test_a_limit_below_that_of_a_sandbox(provider_with: Callable[[int], Any]) -> None:
    sandbox = provider_with(60).acquire()
    assert sandbox.exec("echo a | cat", timeout=20).output == "a\n"
    assert sandbox.exec("ulimit -u", timeout=20).output == "60\n"
    sandbox.close()


def test_no_room_for_a_sandbox(provider_with: Callable[[int], Any]) -> None:
    with pytest.raises(SandboxError, match=r"may run 3: raise the limit \(ulimit -u\)") as caught:
        provider_with(3).acquire()
    # another attempt, or another time, may fare better
    assert not isinstance(caught.value, SandboxUnavailable)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group in which few processes may be."""
    folder = Path(f"/sys/fs/cgroup/pids/shelleval-test-{os.getpid()}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    deadline = time.monotonic() + 60
    while folder.exists():  # the kernel may still be clearing away its processes
        try:
            folder.rmdir()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.fixture
def provider_in(group: Path) -> Iterator[Callable[[int], Any]]:
    made: list[Any] = []

    def make(processes: int) -> Any:
        (group / "pids.max").write_text(str(processes))
        join = f'echo $$ >{group}/cgroup.procs && exec "$@"'
        made.append(make_provider("ordinary", Limits(), before=["sh", "-c", join, "sh"], uid=0))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


def test_a_control_group_without_room(provider_in: Callable[[int], Any]) -> None:
    with pytest.raises(SandboxError, match=r"and may have 3: raise its pids\.max") as caught:
        provider_in(3).acquire()
    assert "container" not in str(caught.value)
    assert "profile" not in str(caught.value)


def test_a_process_that_the_host_refuses(provider_in: Callable[[int], Any]) -> None:
    sandbox = provider_in(24).acquire()
    assert sandbox.exec("echo a | cat", timeout=20).output == "a\n"
    with pytest.raises(SandboxError, match=r"refused a process: its control groups allow 24 in"):
        sandbox.exec("for i in {1..30}; do sleep 60 & done; wait", timeout=5)
    sandbox.close()


def test_a_low_limit_on_open_files() -> None:
    before = ["prlimit", "--nofile=100:100"]
    provider = make_provider("ordinary", Limits(), before=before, uid=ORDINARY)
    assert provider.acquire().exec_session("echo a", timeout=20).output == "a\n"
    provider.close()


def test_a_limit_on_open_files_that_is_too_low() -> None:
    before = ["prlimit", "--nofile=40:40"]
    provider = make_provider("ordinary", Limits(), before=before, uid=ORDINARY)
    with pytest.raises(SandboxError, match=r"may open 40 files .* \(ulimit -n\)") as caught:
        provider.acquire()
    assert "container" not in str(caught.value)
    provider.close()
