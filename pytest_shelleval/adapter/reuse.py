"""Results for items that need no execution: from an earlier run, or from another item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval.adapter.run import Case, CaseCommand, Run

if TYPE_CHECKING:
    from pytest_shelleval.core.results import Result

_OWN_HOOKS = ("pytest_shelleval_score", "pytest_shelleval_sandboxes")
_OWN_FIXTURES = ("shelleval_command", "shelleval_sandbox", "shelleval_sandboxes")
OWN_FIXTURES = (*_OWN_FIXTURES, "shelleval_commands", "shelleval_settings", "shelleval_task")
"""The fixtures of an item that a user may override."""


def has_own(config: pytest.Config, *names: str) -> bool:
    """Whether a conftest.py or another plugin defines one of these hooks or fixtures."""
    return not own_names(config).isdisjoint(names)


def own_names(config: pytest.Config) -> set[str]:
    """The sandbox and score hooks, and item fixtures, that are defined outside this plugin."""
    hooks = {name for name in _OWN_HOOKS if getattr(config.hook, name).get_hookimpls()}
    fixtures = {name for each in config.pluginmanager.get_plugins() for name in _fixtures_of(each)}
    return hooks | fixtures.intersection(OWN_FIXTURES)


def _fixtures_of(holder: object) -> Iterator[str]:
    """The names of the fixtures in a plugin, except those of this package.

    pytest itself knows them only after collection, and never in the controller of xdist workers.
    """
    from pytest_shelleval.adapter import fixtures

    kind: Any = type(fixtures.shelleval_sandboxes)
    for part in (holder, *type(holder).__mro__):
        for attribute, value in list(getattr(part, "__dict__", {}).items()):
            if isinstance(value, kind) and value is not getattr(fixtures, attribute, None):
                # @pytest.fixture(name=...) takes precedence over the attribute's name
                yield value.name if value.name != value.__name__ else attribute


class Reuse:
    """The results that one process has without executing anything."""

    def __init__(self, run: Run, config: pytest.Config) -> None:
        self._run = run
        self._config = config
        self._executed: dict[str, Result] = {}

    def replayed(self, nodeid: str) -> Result | None:
        """The earlier run's result for the item *nodeid*, if it is replayed."""
        return None if self._run.replay is None else self._run.replay.result(nodeid)

    def known(self, nodeid: str, key: str | None) -> Result | None:
        """The result for items of the shared *key*, from this process or from an earlier run.

        ``reused_from`` names the item that was executed.
        """
        if key is None:
            return None
        found = self._executed.get(key)
        replay = self._run.replay
        if found is None and replay is not None and key in replay.verdicts:
            found = replay.result(replay.verdicts[key])
            if found is not None and found.reused_from is None:
                found.reused_from = replay.verdicts[key]
        # an item that is not replayed has to run again, and not reuse its own earlier result
        return None if found is None or found.reused_from == nodeid else found

    def keep(self, nodeid: str, key: str | None, result: Result) -> None:
        """Keep the *result* of the item *nodeid*, if it has a verdict, for others of the shared *key*."""
        from pytest_shelleval.core.ledger import FINISHED

        same = key is not None and result.execution_key == key.partition("-")[0]
        if key is not None and same and result.status in FINISHED and result.reused_from is None:
            self._executed.setdefault(key, replace(result, reused_from=nodeid))

    def shared_key(self, case: Case, found: CaseCommand | None = None) -> str | None:
        """The key that all items with the same execution share; None if *case* shares with none.

        *found* is its command, if the caller has it.
        """
        if not self._run.settings.reuse:
            return None
        key = self._key(case, found)
        return key if key in self.repeated else None

    def _key(self, case: Case, found: CaseCommand | None = None) -> str | None:
        found = found or self._run.command_for(case)
        if found.lack:
            return None
        key = found.execution_key
        return f"{key}-{case.task.task_id}" if self._by_task else key

    @cached_property
    def _by_task(self) -> bool:
        """Whether a user's hooks or fixtures, which may look at the task, affect executions."""
        return has_own(self._config, *_OWN_HOOKS, *_OWN_FIXTURES)

    @cached_property
    def repeated(self) -> dict[str, int]:
        """The number of items for each key that more than one item has."""
        found = Counter(self._key(case) for case in self._run.cases.values())
        return {key: times for key, times in found.items() if key is not None and times > 1}


REUSE: pytest.StashKey[Reuse] = pytest.StashKey()


def reuse_of(config: pytest.Config, run: Run) -> Reuse:
    """The one :class:`Reuse` of this process."""
    if REUSE not in config.stash:
        config.stash[REUSE] = Reuse(run, config)
    return config.stash[REUSE]
