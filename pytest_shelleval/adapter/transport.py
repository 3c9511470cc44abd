"""Carries results to the controller: each on its test report, as one ASCII string.

With pytest-xdist, workers send reports to the controller; without it, item and controller are in the
same process. Either way only the controller writes files.
"""

from __future__ import annotations

import contextlib
import json
from functools import lru_cache
from sys import intern
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval.adapter.items import InferenceFailed, NotPassed, TaskItem

if TYPE_CHECKING:
    from pytest_shelleval.core.results import ErrorKind

_ATTRIBUTE = "shelleval_result"
PHASE = "shelleval_phase"
"""The report's attribute for the phase to publish it with.

pytest counts a failure in the setup phase as an error, one in the call phase as a failure. Until the
report is published, ``when`` stays the phase that ran: other plugins read it while the report is made.
"""
ORIGIN = "shelleval_origin"
"""The report's attribute for the origin of a result that was not executed now."""


def complete_report(item: TaskItem, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Put the item's result and its explanation on *report*, if the item ended in this phase."""
    from pytest_shelleval.core.results import Result, empty_command

    error = call.excinfo.value if call.excinfo is not None else None
    if report.when == "teardown":
        item.settle()
        if error is None:
            item.forget()
    if report.when == "setup" and item.ahead:
        report.duration = 0.0  # waiting for the engine does not count as this item's time
    if report.when == "teardown" or (report.when == "setup" and error is None) or report.skipped:
        return
    result = item.result
    if error is not None:
        if result is None:
            case = item.case
            command = empty_command(case.task, case.model, case.sample)
            result = item.result = Result.of(case.task, command)
        if result.error is None and not isinstance(error, NotPassed):
            # not a verdict, even if there was one before: an error in a user's fixture or hook, a
            # timeout plugin, Ctrl-C
            result.fail_as_error(_kind(error, report.when), f"{type(error).__name__}: {error}")
        text = item.explained(error)
        if text is not None:
            report.longrepr = text
    if result is None:
        return
    item.settle()
    if item.ahead and isinstance(error, NotPassed | None):
        report.duration = sum(result.durations.values())
    if item.origin is not None:
        setattr(report, ORIGIN, item.origin)
    if report.failed:
        setattr(report, PHASE, "setup" if result.status == "error" else "call")
    _add_properties(item, report)
    if item.origin == "replayed":
        return  # results.jsonl has it already
    # ASCII, since xdist crashes on lone surrogates; a string, since it crashes on most other types
    setattr(report, _ATTRIBUTE, json.dumps(result.to_record()))


def _kind(error: BaseException, when: str | None) -> ErrorKind:
    if isinstance(error, InferenceFailed):
        return "inference"
    if not isinstance(error, Exception):
        return "interrupted"
    return "sandbox" if when == "setup" else "crashed"


def _add_properties(item: TaskItem, report: pytest.TestReport) -> None:
    """Add what --junitxml and --json-report show per test."""
    result = item.result
    assert result is not None
    properties: dict[str, object] = {
        "task_id": result.command.task_id,
        "model": result.command.model,
        "sample": result.command.sample,
        "status": result.status,
        "command": result.command.generated_command,
        "command_exit_code": result.command_exit_code,
        "test_exit_code": result.test_exit_code,
        "error_kind": result.error_kind,
        "timed_out": result.timed_out,
        "origin": item.origin,
    }
    given = [_property(name, str(value)) for name, value in properties.items() if value is not None]
    item.user_properties[len(item.user_properties) :] = given
    report.user_properties = list(item.user_properties)
    if result.command_output and report.passed:  # a failure's text shows it already
        from pytest_shelleval.report.explain import shortened

        output = shortened(result.command_output)
        report.sections.append(("Captured stdout of the command", output))


_WORDS = ("outcome", "when", "worker_id", "testrun_uid")


def share_words(report: pytest.TestReport) -> None:
    """Save memory: make *report*, from a worker, refer to strings already received.

    pytest keeps every report until the run ends, and each that is sent has its own copy of every word.
    """
    held = vars(report)
    held.update({name: intern(held[name]) for name in _WORDS if type(held.get(name)) is str})
    report.keywords = {intern(str(word)): value for word, value in report.keywords.items()}
    with contextlib.suppress(TypeError, ValueError):  # users' own properties may be anything
        pairs = tuple((name, value) for name, value in report.user_properties)
        report.user_properties = _listed(pairs)


@lru_cache(256)
def _listed(properties: tuple[tuple[str, object], ...]) -> list[tuple[str, object]]:
    return [_property(name, value) for name, value in properties]


@lru_cache(256)
def _property(name: str, value: object) -> tuple[str, object]:
    """The pair, shared by all reports with the same: pytest keeps every report until the run ends."""
    return name, value


def take_result(report: pytest.TestReport) -> dict[str, Any] | None:
    """Remove and return the record for results.jsonl that *report* carries, if any.

    It is removed because pytest keeps the report until the run ends.
    """
    text = vars(report).pop(_ATTRIBUTE, None)
    if text is None:
        return None
    record: dict[str, Any] = json.loads(text)
    return record
