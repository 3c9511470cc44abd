"""--shelleval-validate: a faulty row stops the run before any model is asked."""

from __future__ import annotations

import pytest

from tests.support import ROWS, Evaluation
from tests.validation.rows import FAULTY, WARNED

MODEL = """
from pathlib import Path

class Counting:
    async def generate(self, request):
        Path("asked.txt").open("a").write(request.task.task_id + "\\n")
        return request.task.gold_command

def pytest_shelleval_model(name, settings):
    return Counting() if name == "counting" else None
"""
RUN = ("--shelleval-model=counting", "--shelleval-validate")


@pytest.fixture
def counting(evaluation: Evaluation) -> Evaluation:
    evaluation.pytester.makeconftest(MODEL)
    return evaluation


def asked(evaluation: Evaluation) -> list[str]:
    path = evaluation.folder / "asked.txt"
    return sorted(path.read_text().split()) if path.exists() else []


@pytest.mark.every_mode
def test_a_faulty_row_stops_the_run_before_money_is_spent(
    counting: Evaluation, mode: tuple[str, ...]
) -> None:
    counting.rows(*ROWS, FAULTY["true"][0], FAULTY["wrong-gold"][0])
    done = counting.run(*RUN, *mode)
    text = done.stdout.str() + done.stderr.str()
    assert done.ret == 4
    assert "2 of 5 rows are faulty; nothing was run and no model was asked" in text
    assert "tasks.jsonl:4 true: it ends in `true`" in text
    assert "tasks.jsonl:5 wrong-gold: condition not met" in text
    assert "Traceback" not in text
    assert asked(counting) == []
    assert counting.lines("commands.jsonl") == counting.lines("results.jsonl") == []
    # what is not selected is not asked for, and need not be sound
    done = counting.run(*RUN, "-k", "not true and not wrong", *mode)
    done.assert_outcomes(passed=3)
    assert "shelleval validation: tasks.jsonl: 3 rows: 3 sound" in done.stdout.str()
    assert asked(counting) == ["copy", "count", "make-file"]


@pytest.mark.every_mode
def test_warnings_stop_nothing(counting: Evaluation, mode: tuple[str, ...]) -> None:
    counting.rows(*ROWS, WARNED["hollow"][0])
    done = counting.run(*RUN, "--shelleval-phase=inference", *mode)
    assert done.ret == 0
    text = done.stdout.str()
    assert text.count("4 rows: 4 sound, 0 faulty, 1 with warnings") == 1
    assert text.count("warnings: hollow 1 (shelleval validate DATASET shows them)") == 1
    assert len(asked(counting)) == 4


def test_it_runs_as_the_run_will(counting: Evaluation, mode: tuple[str, ...]) -> None:
    counting.rows(FAULTY["needs-shared"][0])
    done = counting.run(*RUN, *mode)
    assert done.ret == 4
    assert "passes with steps shared" in done.stdout.str() + done.stderr.str()
    counting.run(*RUN, "--shelleval-steps=shared", *mode).assert_outcomes(passed=1)


def test_sandboxes_of_the_users_own(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    provider = """
        from pytest_shelleval.sandboxes.local.provider import LocalProvider

        class Own(LocalProvider):
            info = {"kind": "own"}
    """
    hook = "def pytest_shelleval_sandboxes(settings):\n    return Own()"
    evaluation.pytester.makeconftest(provider + "\n        " + hook.replace("\n", "\n        "))
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-validate", *mode)
    done.assert_outcomes(passed=3)
    assert "sandboxes (own)" in done.stdout.str()
    for decorator, name in (
        ('@pytest.fixture(scope="session")', "shelleval_sandboxes"),
        ('@pytest.fixture(scope="session", name="shelleval_sandboxes")', "own_sandboxes"),
    ):
        fixture = f"""
        import pytest

        {decorator}
        def {name}():
            yield Own()
        """
        evaluation.pytester.makeconftest(provider + fixture)
        done = evaluation.run("--shelleval-model=oracle", "--shelleval-validate", *mode)
        text = done.stdout.str() + done.stderr.str()
        assert done.ret == 4
        assert "return the provider from the hook pytest_shelleval_sandboxes" in text


def test_fixtures_that_are_not_the_users_own_sandboxes(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(
        """
        import pytest
        from pytest_shelleval.plugin import shelleval_sandboxes

        @pytest.fixture(name="other")
        def shelleval_sandbox():
            return None
        """
    )
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-validate", *mode)
    done.assert_outcomes(passed=3)
    assert "3 rows: 3 sound" in done.stdout.str()
