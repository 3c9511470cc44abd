"""The examples do what their READMEs say."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support import Evaluation

EXAMPLES = Path(__file__).parents[2] / "conftest_examples"


def test_own_model(evaluation: Evaluation) -> None:
    shutil.copytree(EXAMPLES / "own_model", evaluation.folder, dirs_exist_ok=True)
    done = evaluation.run("--shelleval-model=table")
    done.assert_outcomes(passed=2, failed=1)
    assert evaluation.statuses() == {"count": "passed", "answer": "passed", "archive": "failed"}
