"""Items that need no execution: their result is that of an earlier run, or of another item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

from pytest_shelleval.adapter.run import Case, Run

if TYPE_CHECKING:
    from pytest_shelleval.core.results import Result
    from pytest_shelleval.core.verdicts import Claim

_OWN_HOOKS = ("pytest_shelleval_score", "pytest_shelleval_sandboxes")
_OWN_FIXTURES = ("shelleval_command", "shelleval_sandbox", "shelleval_sandboxes")


def has_own(config: pytest.Config, *names: str) -> bool:
    """Whether a conftest.py or another plugin brings one of these hooks or fixtures."""
    return not own_names(config).isdisjoint(names)


def own_names(config: pytest.Config) -> set[str]:
    """Hooks and fixtures about sandboxes and verdicts that are not this plugin's."""
    hooks = {name for name in _OWN_HOOKS if getattr(config.hook, name).get_hookimpls()}
    fixtures = {name for each in config.pluginmanager.get_plugins() for name in _fixtures_of(each)}
    return hooks | fixtures.intersection(_OWN_FIXTURES)


def _fixtures_of(holder: object) -> Iterator[str]:
    """The names under which pytest registers the fixtures of a plugin, without this package's own.

    pytest itself knows them only after the collection, and in the controller of workers never.
    """
    from pytest_shelleval.adapter import fixtures

    kind: Any = type(fixtures.shelleval_sandboxes)
    for part in (holder, *type(holder).__mro__):
        for attribute, value in list(getattr(part, "__dict__", {}).items()):
            if isinstance(value, kind) and value is not getattr(fixtures, attribute, None):
                # @pytest.fixture(name=...) comes before the attribute's name
                yield value.name if value.name != value.__name__ else attribute


class Known:
    """What one process knows of results without executing anything."""

    def __init__(self, run: Run, config: pytest.Config) -> None:
        self._run = run
        self._config = config

    def replayed(self, nodeid: str) -> Result | None:
        """The result of an earlier run for the item *nodeid*, where it counts still."""
        return None if self._run.replay is None else self._run.replay.result(nodeid)

    def claim(self, nodeid: str, case: Case) -> Claim | None:
        """The place that *case* shares with others of the same command; None where there is none.

        Waits while another process executes that command. A claim must be released.
        """
        from pytest_shelleval.core.verdicts import Claim

        key, folder = self.shared_key(case), self._run.state_directory
        # on another machine than the controller's there is no such folder
        if key is None or folder is None or not folder.is_dir():
            return None
        claim = Claim(folder / "verdicts", key, key.partition("-")[0])
        replay = self._run.replay
        if claim.known is None and replay is not None and key in replay.verdicts:
            claim.known = replay.result(replay.verdicts[key])
            if claim.known is not None and claim.known.reused_from is None:
                claim.known.reused_from = replay.verdicts[key]
        if claim.known is not None and claim.known.reused_from == nodeid:
            claim.known = None  # it is run again, on purpose
        return claim

    def shared_key(self, case: Case) -> str | None:
        """What all items have in common that come to the same; None where *case* is alone."""
        if not self._run.settings.reuse:
            return None
        key = self._key(case)
        return key if key in self._repeated else None

    def _key(self, case: Case) -> str | None:
        command = self._run.command_of(case)
        if command is None or command.generated_command is None:
            return None
        if command.task != case.task.task:
            return None  # written for another text: it will not be run
        key = self._run.execution_key(case.task, command)
        return f"{key}-{case.task.task_id}" if self._by_task else key

    @cached_property
    def _by_task(self) -> bool:
        """Whether own code, which may look at the task, has a say in what is executed."""
        return has_own(self._config, *_OWN_HOOKS, *_OWN_FIXTURES)

    @cached_property
    def _repeated(self) -> frozenset[str]:
        found = Counter(self._key(case) for case in self._run.cases.values())
        return frozenset(key for key, times in found.items() if key is not None and times > 1)


KNOWN: pytest.StashKey[Known] = pytest.StashKey()


def known_of(config: pytest.Config, run: Run) -> Known:
    """What this process knows."""
    if KNOWN not in config.stash:
        config.stash[KNOWN] = Known(run, config)
    return config.stash[KNOWN]
