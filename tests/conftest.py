"""What all tests share."""

from __future__ import annotations

import os

import hypothesis
import pytest

# no test fails because the machine is busy
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

pytest_plugins = ["pytester"]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread the suite over the cores, a file to a worker, unless the command line says how."""
    option = config.option
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # a worker has none of its own
    if getattr(option, "numprocesses", 0) is None and option.dist == "no" and not option.usepdb:
        option.numprocesses = min(os.cpu_count() or 1, 4)
        option.dist = "loadfile"
