"""Fixtures of the tests that run pytest."""

from __future__ import annotations

import pytest

from tests.support import MODES, Evaluation


@pytest.fixture
def evaluation(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    return Evaluation(pytester, monkeypatch)


@pytest.fixture(params=MODES.values(), ids=MODES)
def mode(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found
