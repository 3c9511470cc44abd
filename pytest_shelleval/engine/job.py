"""One execution as a value that travels: :class:`Job` in, :class:`~pytest_shelleval.core.results.Result` out."""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxUnavailable, ShellevalError
from pytest_shelleval.core.execution import Cancellation, Execution, ExecutionPolicy, Score
from pytest_shelleval.core.repetition import repeat
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import SandboxSpec
from pytest_shelleval.sandboxes.registry import provide


@dataclass(frozen=True, slots=True)
class Job:
    """All that one execution needs; can be pickled."""

    task: Task
    command: Command
    """Has a command to run: ``generated_command`` is not None."""
    policy: ExecutionPolicy
    sandbox: SandboxSpec
    execution_key: str | None = None
    """For the result; see :class:`~pytest_shelleval.core.replay.ExecutionKeys`."""


class ScoreFailed(Exception):  # noqa: N818 - what happened
    """Own code that scores results raised; ``__cause__`` is what it raised."""

    def __init__(self, result: Result) -> None:
        super().__init__(result)
        self.result = result
        """The result as far as it got, with status ``error``."""


def execute(
    job: Job,
    *,
    provider: SandboxProvider | None = None,
    score: Score | None = None,
    worker: str = "main",
    cancellation: Cancellation | None = None,
) -> Result:
    """Run *job* in a sandbox of *provider*, or of this process's own for ``job.sandbox``.

    Setup, command and condition; tried again after infrastructure faults, repeated where the policy
    says so. What goes wrong is in the result, with status ``error``. *worker* is its field of that
    name. Another thread may end it by *cancellation*. Raises ScoreFailed if *score* raises.
    """
    try:
        source = provider or provider_for(job.sandbox)
    except SandboxUnavailable as error:
        result = Result.of(job.task, job.command, worker)
        result.execution_key = job.execution_key
        result.fail_as_error("sandbox", str(error))
        return result
    execution = Execution(
        job.task, job.command, source, job.policy, worker=worker, cancellation=cancellation
    )
    execution.result.execution_key = job.execution_key
    try:
        execution.run(score=score)
        if job.policy.executions > 1:
            repeat(execution, score=score)
    except ShellevalError:
        pass  # the result says it
    except Exception as error:
        execution.result.fail_as_error("crashed", f"{type(error).__name__}: {error}")
        raise ScoreFailed(execution.result) from error
    finally:
        execution.release()
    return execution.result


_providers: dict[tuple[int, SandboxSpec], SandboxProvider] = {}
"""By process id, since a process may be forked from one that has some."""
_lock = threading.Lock()


def provider_for(spec: SandboxSpec) -> SandboxProvider:
    """This process's provider for *spec*, made at the first call; closed when the process ends.

    Raises SandboxUnavailable if a package is missing.
    """
    key = os.getpid(), spec
    with _lock:
        if key not in _providers:
            if not any(process == key[0] for process, _ in _providers):
                atexit.register(close_providers)
            _providers[key] = provide(spec)
        return _providers[key]


def close_providers() -> None:
    """Close this process's providers; a further :func:`execute` makes new ones."""
    with _lock:
        own = [key for key in _providers if key[0] == os.getpid()]
        providers = [_providers.pop(key) for key in own]
    for provider in providers:
        provider.close()
