"""Executes items ahead of pytest: the items then take their results from the engine's pool."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval.adapter.items import TaskItem
from pytest_shelleval.adapter.reuse import OWN_FIXTURES, own_names, reuse_of
from pytest_shelleval.adapter.run import CaseCommand, Run

if TYPE_CHECKING:
    from pytest_shelleval.core.execution import Score
    from pytest_shelleval.core.results import Result
    from pytest_shelleval.core.sandbox import Sandbox, SandboxProvider
    from pytest_shelleval.engine.job import Job
    from pytest_shelleval.engine.pool import Planned

_AHEAD = 4
"""Jobs submitted ahead, per job that runs at a time."""
_ALONE = (
    ("usepdb", "--pdb"),
    ("trace", "--trace"),
    ("setupshow", "--setup-show"),
)
"""Options of pytest that need items to run one at a time."""


def why_alone(config: pytest.Config) -> str:
    """Why items have to run one at a time in this process; empty if they do not."""
    for name, flag in _ALONE:
        if getattr(config.option, name, False):
            return flag
    own = sorted(own_names(config).intersection(OWN_FIXTURES))
    return f"your own fixture {own[0]} has to run around each" if own else ""


def concurrency_of(run: Run) -> int:
    """The number of executions at a time in this process. Raises SandboxUnavailable."""
    from pytest_shelleval.sandboxes.registry import concurrency

    given = run.settings.execution_concurrency
    return concurrency(run.sandbox_spec) if given is None else given


class Ahead:
    """The executions of this process's items, started before pytest reaches the items."""

    def __init__(self, config: pytest.Config, run: Run, items: Sequence[pytest.Item]) -> None:
        """Raises SandboxUnavailable."""
        from pytest_shelleval.engine.pool import Pool
        from pytest_shelleval.engine.threads import Threads

        self._config = config
        self._run = run
        self._reuse = reuse_of(config, run)
        self._taken: set[str] = set()
        self._unrecorded: dict[str, Result] = {}
        concurrency = concurrency_of(run)
        self._provider = self._provide()
        own_score = config.hook.pytest_shelleval_score.get_hookimpls()
        self._threads = Threads(
            self._provider, concurrency, score=self._score if own_score else lambda job: None
        )
        settings = run.settings
        self._pool = Pool(
            self._threads.submit,
            self._plan(items),
            ahead=concurrency * _AHEAD,
            repeated=self._reuse.repeated if settings.reuse else None,
        )

    def _provide(self) -> SandboxProvider:
        from pytest_shelleval.sandboxes.registry import provide

        own: SandboxProvider | None = self._config.hook.pytest_shelleval_sandboxes(
            settings=self._run.settings
        )
        return own or provide(self._run.sandbox_spec)

    def _score(self, job: Job) -> Score:
        """The user's hook pytest_shelleval_score; called in the engine's threads."""

        def score(result: Result, sandbox: Sandbox) -> float | None:
            found: float | None = self._config.hook.pytest_shelleval_score(
                task=job.task, result=result, sandbox=sandbox
            )
            return found

        return score

    def _plan(self, items: Iterable[pytest.Item]) -> Iterator[Planned]:
        from pytest_shelleval.engine.pool import Planned

        replay = self._run.replay
        replayed = {} if replay is None else replay.offsets
        for item in items:
            if not isinstance(item, TaskItem) or item.nodeid in replayed:
                continue
            found = self._run.command_for(item.case)
            key = self._reuse.shared_key(item.case, found)
            if not found.lack and self._reuse.known(item.nodeid, key) is None:
                yield Planned(item.nodeid, self._job(item, found), key)

    def _job(self, item: TaskItem, found: CaseCommand) -> Job:
        from pytest_shelleval.engine.job import Job

        run = self._run
        assert found.command is not None, "only commands are planned"
        spec, policy = run.sandbox_spec, run.settings.policy
        return Job(item.case.task, found.command, policy, spec, found.execution_key)

    def take(self, item: TaskItem) -> tuple[Result, str] | None:
        """Wait for the result of *item*; also return the node id of the item that was executed for it.

        None if there is nothing to execute. Raises what the user's score hook raises, and ends the
        run if the executor breaks.
        """
        from pytest_shelleval.engine.job import ScoreFailed

        name, found = item.nodeid, self._run.command_for(item.case)
        if found.lack:
            return None
        try:
            if name in self._taken:  # a rerun
                result, runner = self._pool.again(self._job(item, found)), name
            else:
                result, runner = self._pool.take(name)
        except ScoreFailed as failed:
            item.result = failed.result
            raise failed.__cause__ or failed from None
        except BrokenExecutor as error:
            pytest.exit(
                f"the executor broke: {error}; run again with --shelleval-resume", returncode=1
            )
        self._taken.add(name)
        self._unrecorded[name] = result
        return result, runner

    def recorded(self, nodeid: str) -> None:
        """Note that the result of *nodeid* has been written."""
        self._unrecorded.pop(nodeid, None)

    def end(self, record: Callable[[str, dict[str, Any]], None]) -> None:
        """Stop executions under way; pass *record* the results that finished but were not reported."""
        from pytest_shelleval.core.ledger import FINISHED

        self._pool.cancel()
        self._threads.end()
        self._provider.close()
        left = {name: result for name, result, runner in self._pool.finished() if runner == name}
        for name, result in (self._unrecorded | left).items():
            if result.status in FINISHED:
                with contextlib.suppress(pytest.UsageError):  # the recorder remembers it
                    record(name, result.to_record())
        self._unrecorded.clear()


AHEAD: pytest.StashKey[Ahead] = pytest.StashKey()
