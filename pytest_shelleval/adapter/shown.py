"""What pytest prints of other people's texts: its reports, and the error that ends a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_shelleval.report.words import inert


def usage_error(error: object) -> pytest.UsageError:
    """What to raise so that pytest prints *error* and ends."""
    return pytest.UsageError(inert(str(error)))


def rewrite_report(
    report: pytest.TestReport | pytest.CollectReport, change: Callable[[str], str]
) -> None:
    """Put every text that is printed of *report* through *change*: why it failed, and its output."""
    report.longrepr = rewritten(report.longrepr, change)
    report.sections = rewritten(report.sections, change)


def rewritten(value: Any, change: Callable[[str], str]) -> Any:
    """*value* with every text in it put through *change*: strings, and pytest's tracebacks in place."""
    if isinstance(value, str):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(rewritten(each, change) for each in value)
    if type(value).__module__.startswith("_pytest."):  # ExceptionChainRepr and what it consists of
        for name, each in vars(value).items():
            setattr(value, name, rewritten(each, change))
    return value
