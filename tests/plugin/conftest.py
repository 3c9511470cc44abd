"""Fixtures of the tests that run pytest."""

from __future__ import annotations

import os
import zlib

import pytest

from tests.support import MODES, Evaluation


@pytest.fixture
def evaluation(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    return Evaluation(pytester, monkeypatch)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what takes a ``mode`` in each of them if it is marked ``every_mode``, else in one.

    The others are dealt out by their names, so that all modes are met all over the suite;
    SHELLEVAL_ALL_MODES=1 runs all in each.
    """
    if "mode" in metafunc.fixturenames:
        names = list(MODES)
        if not metafunc.definition.get_closest_marker("every_mode") and not os.environ.get(
            "SHELLEVAL_ALL_MODES"
        ):
            names = [names[zlib.crc32(metafunc.definition.name.encode()) % len(names)]]
        metafunc.parametrize("mode", [MODES[name] for name in names], ids=names)
