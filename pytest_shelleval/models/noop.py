"""The no-op: does nothing, to find tasks whose success condition holds from the start."""

from __future__ import annotations

from pytest_shelleval.models.base import Reply, Request


class NoopModel:
    """Answers every task with ``true``: every sound task fails."""

    name = "noop"
    free = True

    async def generate(self, request: Request) -> Reply:
        """The command ``true``."""
        return Reply(text="true", command="true", finish_reason="stop")
