"""The oracle: answers every task with its gold command, to check a dataset and a sandbox."""

from __future__ import annotations

from pytest_shelleval.core.errors import GenerationError
from pytest_shelleval.models.base import Reply, Request


class OracleModel:
    """Replays the dataset's ``gold_command``: every sound task passes."""

    name = "oracle"
    free = True

    async def generate(self, request: Request) -> Reply:
        """The task's gold command. Raises GenerationError for a task that has none."""
        gold = request.task.gold_command
        if gold is None or not gold.strip():
            raise GenerationError("the task has no gold_command for the oracle to replay")
        return Reply(text=gold, command=gold, finish_reason="stop")
