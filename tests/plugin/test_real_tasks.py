"""The main job on rows that nobody on this project wrote, where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import Evaluation

ROWS = Path(__file__).parents[3] / "shared" / "data" / "real_tasks.jsonl"
# these need more user ids than an ordinary user has by default, or files of root's in /usr
NEED_IDS = {"agentbench-os/std-6/new/2", "agentbench-os/std-6/new/3"}

pytestmark = pytest.mark.skipif(not ROWS.is_file(), reason="the sample rows are not here")


def test_every_gold_command_passes(evaluation: Evaluation) -> None:
    evaluation.run(
        "--shelleval-model=oracle", "--shelleval-steps=shared", "-n", "2", dataset=str(ROWS)
    )
    statuses = evaluation.statuses()
    assert len(statuses) == 96
    others = {task_id for task_id, status in statuses.items() if status != "passed"}
    assert not others if os.geteuid() == 0 else others <= NEED_IDS


def test_doing_nothing_passes_nothing(evaluation: Evaluation) -> None:
    evaluation.run(
        "--shelleval-model=noop", "--shelleval-steps=shared", "-n", "2", dataset=str(ROWS)
    )
    statuses = evaluation.statuses()
    assert len(statuses) == 96
    assert "passed" not in statuses.values()
    assert not {task_id for task_id, s in statuses.items() if s == "error"} - NEED_IDS
