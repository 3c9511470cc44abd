"""The kinds of sandbox by name, and the provider for a run.

A new kind is a folder with a :class:`~pytest_shelleval.sandboxes.base.SandboxKind` named ``KIND``, and
a line in the table here. Another package registers its kind as an entry point of the group
``pytest_shelleval.sandboxes``.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.core.scratch import left_behind
from pytest_shelleval.sandboxes.base import SandboxKind, SandboxSpec

AUTO = "auto"
_KINDS = {
    "local": "pytest_shelleval.sandboxes.local.kind",
    "docker": "pytest_shelleval.sandboxes.docker_engine.kind",
    "sos": "pytest_shelleval.sandboxes.sos.kind",
}
_AUTO_ORDER = ("local", "docker")
"""Kinds that ``auto`` tries if no option asks for one."""
_GROUP = "pytest_shelleval.sandboxes"


def parse_kind(text: str) -> str:
    """*text*, if it names a kind or is ``auto``. Raises ValueError that names all kinds."""
    if text == AUTO or text in _KINDS or text in _registered():
        return text
    raise ValueError(f"one of {', '.join((AUTO, *_KINDS, *sorted(_registered())))} is expected")


def kind_of(name: str) -> SandboxKind:
    """The kind *name*. Raises SandboxUnavailable if there is none, or if it can't be loaded."""
    if name in _KINDS:
        found: SandboxKind = import_module(_KINDS[name]).KIND
        return found
    try:
        found = _registered()[name].load()
    except KeyError:
        raise SandboxUnavailable(f"no sandbox is named {name}") from None
    except ImportError as error:
        raise SandboxUnavailable(f"the sandbox {name} can't be loaded: {error}") from error
    return found


def check(spec: SandboxSpec) -> str:
    """The name of the kind for *spec*, tested by creating a sandbox.

    Raises SandboxUnavailable, whose message says how to fix it.
    """
    named = [spec.kind] if spec.kind != AUTO else _asked_for(spec)
    if named:
        kind_of(named[0]).check(replace(spec, kind=named[0]))
        return named[0]
    troubles = []
    for name in _AUTO_ORDER:
        try:
            kind_of(name).check(replace(spec, kind=name))
        except SandboxUnavailable as error:
            troubles.append(f"{name}: {error}")
        else:
            return name
    raise SandboxUnavailable("\n".join(troubles))


def provide(spec: SandboxSpec) -> SandboxProvider:
    """The provider for *spec*; does not test which kind ``auto`` means, see :func:`check`.

    Raises SandboxUnavailable if a package is missing.
    """
    name = spec.kind
    if name == AUTO:
        name = (*_asked_for(spec), _AUTO_ORDER[0])[0]
    return kind_of(name).provide(replace(spec, kind=name))


def concurrency(spec: SandboxSpec) -> int:
    """The default of concurrent executions of *spec* in one process.

    Raises SandboxUnavailable.
    """
    return kind_of(_AUTO_ORDER[0] if spec.kind == AUTO else spec.kind).concurrency(spec)


def identity(spec: SandboxSpec) -> dict[str, Any]:
    """The values of *spec* that may decide a verdict, as JSON values."""
    kind = _AUTO_ORDER[0] if spec.kind == AUTO else spec.kind
    return {"kind": spec.kind, "limits": asdict(spec.limits), **kind_of(kind).identity(spec)}


def clean_up(spec: SandboxSpec) -> bool:
    """Clean up outside the run's folder after its killed workers; whether nothing is left."""
    return kind_of(spec.kind).clean_up(spec) if spec.kind != AUTO else True


def clean_up_after_killed_runs(spec: SandboxSpec) -> None:
    """Clean up after runs whose controller was killed.

    Their sandboxes on SoS servers are left to the next run that uses such servers.
    """
    for folder in left_behind():
        if all(kind_of(name).clean_up(replace(spec, state_directory=folder)) for name in _KINDS):
            shutil.rmtree(folder, ignore_errors=True)


def _asked_for(spec: SandboxSpec) -> list[str]:
    return [name for name in reversed(_KINDS) if kind_of(name).asked_for(spec)]


def _registered() -> dict[str, EntryPoint]:
    """Kinds of other packages, by name."""
    return {each.name: each for each in entry_points(group=_GROUP)}
