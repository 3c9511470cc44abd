"""Makes foreign text safe in what pytest prints: reports, and the error that ends a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_shelleval.report.words import inert


def usage_error(error: object) -> pytest.UsageError:
    """The exception that makes pytest print *error* and end."""
    return pytest.UsageError(inert(str(error)))


def rewrite_report(
    report: pytest.TestReport | pytest.CollectReport, change: Callable[[str], str]
) -> None:
    """Apply *change* to every text of *report* that is printed: why it failed, and its output."""
    report.longrepr = rewritten(report.longrepr, change)
    report.sections = rewritten(report.sections, change)


def rewritten(value: Any, change: Callable[[str], str]) -> Any:
    """*value* with *change* applied to every text in it; pytest's tracebacks are changed in place."""
    if isinstance(value, str):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(rewritten(each, change) for each in value)
    if type(value).__module__.startswith("_pytest."):  # ExceptionChainRepr and what it consists of
        for name, each in vars(value).items():
            setattr(value, name, rewritten(each, change))
    return value
