"""Fixtures. Override any of them in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from pytest_shelleval.adapter.run import run_of

if TYPE_CHECKING:
    from pytest_shelleval.core.commands import Command, CommandStore
    from pytest_shelleval.core.sandbox import Sandbox, SandboxProvider
    from pytest_shelleval.core.tasks import Task
    from pytest_shelleval.settings.settings import Settings


@pytest.fixture(scope="session")
def shelleval_settings(pytestconfig: pytest.Config) -> Settings:
    """The settings of this run: every --shelleval option, resolved."""
    from pytest_shelleval.adapter.options import from_config

    run = run_of(pytestconfig)
    return from_config(pytestconfig) if run is None else run.settings


@pytest.fixture(scope="session")
def shelleval_commands(
    pytestconfig: pytest.Config, shelleval_settings: Settings
) -> Iterator[CommandStore]:
    """The commands of phase 1: what the controller wrote to commands.jsonl."""
    from pytest_shelleval.core.commands import CommandStore

    run = run_of(pytestconfig)
    if run is not None:
        yield run.commands
        return
    store = CommandStore(shelleval_settings.commands_file)
    store.load()
    yield store
    store.close()


@pytest.fixture(scope="session")
def shelleval_sandboxes(
    pytestconfig: pytest.Config, shelleval_settings: Settings
) -> Iterator[SandboxProvider]:
    """The provider of fresh sandboxes, some of them created ahead."""
    from pytest_shelleval.sandboxes.registry import provide

    provider = pytestconfig.hook.pytest_shelleval_sandboxes(settings=shelleval_settings)
    if provider is None:
        run = run_of(pytestconfig)
        provider = provide(shelleval_settings.sandbox_spec if run is None else run.sandbox_spec)
    yield provider
    provider.close()


# No function-scoped fixture here requests ``request`` or a session-scoped fixture: for each that does,
# pytest creates two requests per item; and if an item gets a session-scoped fixture through another
# fixture, pytest keeps a finalizer and a request of it until the run ends. So the items request the
# session-scoped fixtures themselves, which are then set up before these.


@pytest.fixture
def shelleval_task() -> Task:
    """The task of this item."""
    from pytest_shelleval.adapter.items import current_item

    return current_item().case.task


@pytest.fixture
def shelleval_command(shelleval_task: Task) -> Command:
    """The model's command for this item; without one it is an error, or a failure if the model replied."""
    from pytest_shelleval.adapter.items import current_item, find_command

    item = current_item()
    commands = cast("CommandStore", item.funcargs["shelleval_commands"])
    return find_command(item, commands)


@pytest.fixture
def shelleval_sandbox(shelleval_command: Command) -> Iterator[Sandbox]:
    """A fresh sandbox in which the setup of this item's task has run; closed afterwards."""
    from pytest_shelleval.adapter.items import current_item, start_execution

    execution = start_execution(current_item(), shelleval_command)
    try:
        yield execution.prepare()
    finally:
        execution.release()
