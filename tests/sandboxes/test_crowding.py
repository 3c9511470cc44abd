"""A user who may start few processes: sandboxes with what there is, or one message that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
