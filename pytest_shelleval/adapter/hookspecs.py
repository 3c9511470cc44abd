"""Hooks for authors of conftest.py and plugins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_shelleval.core.results import Result
    from pytest_shelleval.core.sandbox import Sandbox, SandboxProvider
    from pytest_shelleval.core.tasks import Task
    from pytest_shelleval.models.base import Message, Model
    from pytest_shelleval.settings.settings import Settings


@pytest.hookspec(firstresult=True)
def pytest_shelleval_model(name: str, settings: Settings) -> Model | None:
    """Return the model called *name* on the command line, or None if it is not yours.

    A model has a ``name`` and ``async def generate(self, request)``, which returns the reply's text
    or a ``Reply``. Called in the controller only.
    """


@pytest.hookspec(firstresult=True)
def pytest_shelleval_prompt(task: Task, messages: Sequence[Message]) -> Sequence[Message] | None:
    """Return the chat messages to send for *task* in place of *messages*, or None to keep them.

    Called in the controller only.
    """


@pytest.hookspec(firstresult=True)
def pytest_shelleval_extract(text: str) -> str | None:
    """Return the command in the reply *text*, or None to leave it to the built-in rules.

    Called in the controller only, for new replies and for kept ones in which no command was found.
    ``shelleval extract`` does not read conftest.py and leaves such commands unchanged.
    """


@pytest.hookspec(firstresult=True)
def pytest_shelleval_sandboxes(settings: Settings) -> SandboxProvider | None:
    """Return the provider of sandboxes to use instead of ``--shelleval-sandbox``, or None.

    Called once in each process that runs tasks. Several threads use the provider at a time unless
    ``--shelleval-execution-concurrency=1``: ``acquire`` must be thread-safe.
    """


@pytest.hookspec(firstresult=True)
def pytest_shelleval_score(task: Task, result: Result, sandbox: Sandbox) -> float | bool | None:
    """Return the score of *result*, 0 to 1, to replace the success condition's verdict, or None.

    Called after command and condition, while *sandbox* still exists and can be inspected. The task's
    test passes if the score is 1; the score itself is kept in the result. Called in several threads
    at a time unless ``--shelleval-execution-concurrency=1``: it must be thread-safe.
    """
