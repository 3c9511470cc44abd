"""What all tests share."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

# A run of a dataset that is started here loads this file too, without what only the tests need.
with contextlib.suppress(ImportError):
    import hypothesis

    # no test fails because the machine is busy
    hypothesis.settings.register_profile(
        "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("suite")

# A background job of a script ignores Ctrl-C, and all that it starts: here some of it is interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["pytester"]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread the suite over the cores unless the command line says how, see :func:`_group`."""
    option = config.option
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # a worker has none of its own
    if getattr(option, "numprocesses", 0) is None and option.dist == "no" and not option.usepdb:
        option.numprocesses = min((os.cpu_count() or 1) + 1, 4)  # many tests wait
        option.dist = "loadgroup"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell xdist which tests belong to one worker."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            group = _group(item)
            if group is not None:
                item.add_marker(pytest.mark.xdist_group(group))


def _group(item: pytest.Item) -> str | None:
    """Tests of a file stay together: they are short, or share what is dear to make.

    Those that start pytest are long: each goes to who is free, unless they share something.
    """
    file = item.nodeid.partition("::")[0]
    if not file.startswith("tests/plugin/"):
        return file
    defined = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009
    ours = [each for several in defined for each in several if each.baseid.startswith("tests")]
    return file if any(each.scope != "function" for each in ours) else None
