"""pytest-shelleval: measure how well a language model writes shell commands.

The names below are the public API. They are imported on first use, so that importing the package
(pytest does, in every run) costs next to nothing. On other machines it is imported before pytest is:
PYTEST_DONT_REWRITE says that there is no harm in that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pytest_shelleval.version import __version__

if TYPE_CHECKING:
    from pytest_shelleval.core.commands import Command as Command
    from pytest_shelleval.core.errors import GenerationError as GenerationError
    from pytest_shelleval.core.errors import SandboxError as SandboxError
    from pytest_shelleval.core.errors import UserError as UserError
    from pytest_shelleval.core.results import Result as Result
    from pytest_shelleval.core.sandbox import ExecResult as ExecResult
    from pytest_shelleval.core.sandbox import Sandbox as Sandbox
    from pytest_shelleval.core.sandbox import SandboxProvider as SandboxProvider
    from pytest_shelleval.core.tasks import Task as Task
    from pytest_shelleval.engine.evaluate import evaluate as evaluate
    from pytest_shelleval.models.base import Model as Model
    from pytest_shelleval.models.base import Reply as Reply
    from pytest_shelleval.models.base import Request as Request
    from pytest_shelleval.sandboxes.base import Limits as Limits

_HOMES = {
    "Command": "core.commands",
    "ExecResult": "core.sandbox",
    "GenerationError": "core.errors",
    "Limits": "sandboxes.base",
    "Model": "models.base",
    "Reply": "models.base",
    "Request": "models.base",
    "Result": "core.results",
    "Sandbox": "core.sandbox",
    "SandboxError": "core.errors",
    "SandboxProvider": "core.sandbox",
    "Task": "core.tasks",
    "UserError": "core.errors",
    "evaluate": "engine.evaluate",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"pytest_shelleval.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
