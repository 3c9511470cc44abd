"""The same command run several times, to find conditions whose verdict changes by itself."""

from __future__ import annotations

from collections import Counter

from pytest_shelleval.core.errors import ShellevalError
from pytest_shelleval.core.execution import Execution, Score
from pytest_shelleval.core.results import Result


class FlakyVerdict(ShellevalError):  # noqa: N818 - what was found
    """The same command passed and failed: the fault is the task's, not the model's."""


def repeat(first: Execution, *, score: Score | None = None) -> Result:
    """Repeat *first*, already run once, until its command has run ``policy.executions`` times.

    Each execution has a fresh sandbox and runs the setup again; the previous sandbox is closed first,
    as there may be no room for two. Returns the result of *first*, with all statuses in
    ``executions``. Raises FlakyVerdict when they differ, and what :meth:`Execution.run` raises when
    an execution meets a fault; the result then has status ``error``.
    """
    result = first.result
    result.executions = [result.status]
    while len(result.executions) < first.policy.executions:
        first.release()
        again = first.again()
        try:
            result.executions.append(again.run(score=score).status)
        except ShellevalError:
            fault = again.result
            result.fail_as_error(fault.error_kind or "sandbox", fault.error or "")
            raise
        finally:
            again.release()
    counted = Counter(result.executions)
    if len(counted) > 1:
        reason = (
            f"the verdict changes: {counted['passed']} of {len(result.executions)} executions of "
            "the same command passed"
        )
        result.fail_as_error("flaky", reason)
        raise FlakyVerdict(reason)
    return result
