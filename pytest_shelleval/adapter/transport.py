"""How a result travels home: on its report, as one ASCII string.

Under pytest-xdist reports are sent from workers to the controller; without it the report just goes
from the item to the controller in the same process. Either way only the controller writes files.
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
"""The report's attribute that says in which phase it is to be published.

pytest counts a failure of the setup phase as an error, one of the call phase as a failure. Until then
``when`` stays the phase that was run: other plugins look at it while the report is made.
"""
ORIGIN = "shelleval_origin"
"""The report's attribute that says where a result is from that was not executed now."""


def complete_report(item: TaskItem, call: pytest.CallInfo[Any], report: pytest.TestReport) -> None:
    """Put the item's result and its explanation on *report*, when this is where it ended."""
    from pytest_shelleval.core.results import Result, empty_command

    error = call.excinfo.value if call.excinfo is not None else None
    if report.when == "teardown":
        item.settle()
        if error is None:
            item.forget()
    if report.when == "setup" and item.ahead:
        report.duration = 0.0  # waiting for the engine is no time of this item's
    if report.when == "teardown" or (report.when == "setup" and error is None) or report.skipped:
        return
    result = item.result
    if error is not None:
        if result is None:
            case = item.case
            command = empty_command(case.task, case.model, case.sample)
            result = item.result = Result.of(case.task, command)
        if result.error is None and not isinstance(error, NotPassed):
            # not a verdict, whatever was found before: a fixture or hook of the user's, a time-out
            # plugin, Ctrl-C
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
        return  # the file has it
    # ASCII, since xdist dies of lone surrogates; a string, since it dies of most other types
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
    """Let *report*, from a worker, have the very words that others have brought already.

    pytest keeps every report to the end of the run, and each that is sent has a copy of every word.
    """
    held = vars(report)
    held.update({name: intern(held[name]) for name in _WORDS if type(held.get(name)) is str})
    report.keywords = {intern(str(word)): value for word, value in report.keywords.items()}
    with contextlib.suppress(TypeError, ValueError):  # of a user's own there may be anything
        pairs = tuple((name, value) for name, value in report.user_properties)
        report.user_properties = _listed(pairs)


@lru_cache(256)
def _listed(properties: tuple[tuple[str, object], ...]) -> list[tuple[str, object]]:
    return [_property(name, value) for name, value in properties]


@lru_cache(256)
def _property(name: str, value: object) -> tuple[str, object]:
    """The pair, one for all reports that say the same: pytest keeps every report to the end."""
    return name, value


def take_result(report: pytest.TestReport) -> dict[str, Any] | None:
    """The line for results.jsonl that *report* brought, if it brought one.

    It is taken off the report, which pytest keeps to the end of the run.
    """
    text = vars(report).pop(_ATTRIBUTE, None)
    if text is None:
        return None
    record: dict[str, Any] = json.loads(text)
    return record
