"""What a sandbox reports about a command's effects, and whether they make a condition unreliable."""

from __future__ import annotations

import re
from typing import Any, cast

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.sandbox import Observant, Sandbox

# Where a shell expects the name of a command.
_COMMAND_POSITION = r"(?:^|[;&|(`!{\n]|\b(?:if|then|else|elif|while|until|do|time|sudo|env|exec|xargs|command)\b)\s*"


def _observant(sandbox: Sandbox) -> Observant | None:
    # not isinstance: on a protocol it takes longer than most sandboxes take to answer
    offers = hasattr(sandbox, "effects") and hasattr(sandbox, "mark")
    return cast(Observant, sandbox) if offers else None


def mark(sandbox: Sandbox) -> None:
    """Tell the sandbox, if it observes effects, that the setup is done. Never raises."""
    observant = _observant(sandbox)
    if observant is not None:
        try:
            observant.mark()
        except SandboxError:
            return


def observe(sandbox: Sandbox) -> dict[str, Any] | None:
    """Effects since :func:`mark`, or None. Never raises: a dead sandbox shows at the next step."""
    observant = _observant(sandbox)
    if observant is not None:
        try:
            return dict(observant.effects())
        except SandboxError:
            return None
    return None


def tampered(condition: str, *effects: dict[str, Any] | None) -> list[str]:
    """Programs that were replaced and that *condition* may use, or removed and that it runs.

    A removed program matters if the condition runs it, because "not found" counts as false in
    ``! grep``; it does not matter if the condition only tests whether the file exists.
    """
    paths: dict[str, None] = {}
    for each in effects:
        if each is not None:
            paths.update(dict.fromkeys(each["tampered"]))
            paths.update(dict.fromkeys(path for path in each["removed"] if _runs(condition, path)))
    return list(paths)


def _runs(condition: str, path: str) -> bool:
    name = re.escape(path.rpartition("/")[2])
    return bool(
        re.search(rf"{_COMMAND_POSITION}(?:{re.escape(path)}|{name})(?![\w./-])", condition)
    )
