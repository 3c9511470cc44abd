"""Sandboxes that answer what a test says, for what no real one can be made to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.sandbox import ExecResult, Sandbox
from pytest_shelleval.core.tasks import Task

Answer = Callable[[str], ExecResult]
_CANARY = re.compile(r"/\.shelleval-([0-9a-f]{12})$", re.MULTILINE)


def done(exit_code: int | None = 0, output: str = "", **more: Any) -> ExecResult:
    return ExecResult(output=output, exit_code=exit_code, **more)


def canary_answer(text: str) -> ExecResult | None:
    """What a sound sandbox, in which there are no programs, answers a canary; None to other texts."""
    token = _CANARY.search(text)
    if token is None:
        return None
    asked = len(re.findall(r"^where ", text, re.MULTILINE))
    return done(0, f"{token[1]}: sound\n" + f"{token[1]}- \n" * asked)


class Scripted:
    """Sandboxes that answer what a test says, and remember what they were asked."""

    def __init__(self, answer: Answer, *, broken: int = 0) -> None:
        self.answer = answer
        """Is asked for ``CANARY`` too; what it answers with exit code 0 is a sound canary."""
        self.broken = broken
        self.asked: list[tuple[str, str, str | None]] = []
        self.open = 0
        self.acquired = 0

    def acquire(self) -> Sandbox:
        self.acquired += 1
        if self.acquired <= self.broken:
            raise SandboxError("no sandbox today")
        self.open += 1
        return ScriptedSandbox(self)

    @property
    def info(self) -> Mapping[str, Any]:
        return {"kind": "scripted"}

    @property
    def texts(self) -> list[str]:
        """What was run, in order."""
        return [text for _, text, _ in self.asked]

    def close(self) -> None:
        pass


class ScriptedSandbox:
    def __init__(self, script: Scripted) -> None:
        self._script = script
        self.id = f"s{script.acquired}"
        self.info = {"kind": "scripted", "id": self.id}

    def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
        sound = canary_answer(text)
        text = "CANARY" if sound else text
        self._script.asked.append(("exec", text, cwd))
        answer = self._script.answer(text)
        return sound if sound and answer.exit_code == 0 else answer

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        self._script.asked.append(("session", text, None))
        return self._script.answer(text)

    def session_directory(self) -> str:
        return "/where/it/ended"

    def close(self) -> None:
        self._script.open -= 1


def task(*setup: str, **fields: Any) -> Task:
    return Task(
        task_id="t", task="Do it", setup_commands=setup, success_condition="CHECK", **fields
    )


def command(text: str | None = "COMMAND") -> Command:
    return Command(
        task_id="t",
        task="Do it",
        setup_commands=[],
        success_condition="CHECK",
        generated_command=text,
        timestamp="2026-01-01T00:00:00Z",
    )
