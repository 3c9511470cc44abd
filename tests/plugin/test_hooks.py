"""What a conftest.py can replace: model, prompt, extraction, score, sandboxes, fixtures."""

from __future__ import annotations

import pytest

from tests.support import ROWS, Evaluation


@pytest.mark.every_mode
def test_an_own_model_prompt_and_extraction(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    evaluation.pytester.makeconftest(
        """
        class Model:
            closed = False

            async def generate(self, request):
                assert request.messages[-1]["content"] == "Please: " + request.task.task
                return "<<" + request.task.gold_command + ">>"

        def pytest_shelleval_model(name, settings):
            return Model() if name == "mine" else None

        def pytest_shelleval_prompt(task, messages):
            return [{"role": "user", "content": "Please: " + task.task}]

        def pytest_shelleval_extract(text):
            return text[2:-2] if text.startswith("<<") else None
        """
    )
    evaluation.run("--shelleval-model=mine", *mode).assert_outcomes(passed=3)
    lines = evaluation.lines("commands.jsonl")
    assert {line["model"] for line in lines} == {"mine"}
    assert all(line["raw_response"] == f"<<{line['generated_command']}>>" for line in lines)
    assert {line["command_from"] for line in lines} == {"hook"}


def test_an_own_score(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    evaluation.pytester.makeconftest(
        """
        def pytest_shelleval_score(task, result, sandbox):
            if task.task_id == "count":
                return 0.5
            if task.task_id == "copy":
                return sandbox.exec("cat b.txt", timeout=5).output == "a\\n"
        """
    )
    done = evaluation.run("--shelleval-model=oracle", *mode)
    done.assert_outcomes(passed=2, failed=1)
    lines = {line["task_id"]: line for line in evaluation.lines("results.jsonl")}
    assert (lines["count"]["score"], lines["count"]["status"]) == (0.5, "failed")
    assert (lines["copy"]["score"], lines["make-file"]["score"]) == (1.0, None)
    assert "the score is 0.5, less than 1" in done.stdout.str()


def test_own_sandboxes_by_hook_and_by_fixture(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    provider = """
        import subprocess
        import pytest
        from pytest_shelleval import ExecResult

        class Plain:
            id = "plain"
            info = {"kind": "plain"}

            def __init__(self, folder):
                self.folder = folder

            def exec(self, text, *, timeout, cwd=None):
                done = subprocess.run(["bash", "-c", text], cwd=self.folder, timeout=timeout,
                                      capture_output=True, text=True)
                return ExecResult(output=done.stdout, exit_code=done.returncode)

            def exec_session(self, text, *, timeout):
                return self.exec(text, timeout=timeout)

            def session_directory(self):
                return str(self.folder)

            def close(self):
                pass

        class Provider:
            info = {"kind": "plain"}

            def acquire(self):
                import tempfile
                return Plain(tempfile.mkdtemp(dir="."))

            def close(self):
                pass
    """
    evaluation.pytester.makeconftest(
        provider
        + """
        def pytest_shelleval_sandboxes(settings):
            return Provider()
        """
    )
    evaluation.run("--shelleval-model=oracle", *mode).assert_outcomes(passed=3)
    assert {line["sandbox"]["kind"] for line in evaluation.lines("results.jsonl")} == {"plain"}
    evaluation.pytester.makeconftest(
        provider
        + """
        @pytest.fixture(scope="session")
        def shelleval_sandboxes():
            return Provider()
        """
    )
    evaluation.run("--shelleval-model=oracle", *mode).assert_outcomes(passed=3)
    assert {line["sandbox"]["kind"] for line in evaluation.lines("results.jsonl")} == {"plain"}


def test_a_hook_that_fails_is_an_error_of_its_task_alone(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(
        """
        def pytest_shelleval_score(task, result, sandbox):
            if task.task_id == "count":
                raise RuntimeError("my own mistake")
        """
    )
    done = evaluation.run("--shelleval-model=oracle", *mode)
    done.assert_outcomes(passed=2, errors=1)
    assert "my own mistake" in done.stdout.str()
    assert evaluation.statuses()["count"] == "error"


def test_fixtures_in_the_users_own_tests(evaluation: Evaluation) -> None:
    evaluation.pytester.makepyfile(
        test_own="""
        def test_a_sandbox_by_hand(shelleval_sandboxes, shelleval_settings):
            sandbox = shelleval_sandboxes.acquire()
            try:
                assert sandbox.exec("pwd", timeout=5).output == "/home/shellm\\n"
                assert shelleval_settings.samples == 1
            finally:
                sandbox.close()
        """
    )
    evaluation.run("test_own.py", dataset=None).assert_outcomes(passed=1)


def test_the_metadata_of_a_row_is_in_the_prompt(evaluation: Evaluation) -> None:
    evaluation.rows(*[{**row, "hint": "be quick"} for row in ROWS])
    (evaluation.folder / "prompt.txt").write_text('{task} ({hint}) {"command": "..."}')
    evaluation.pytester.makeconftest(
        """
        class Model:
            async def generate(self, request):
                assert request.messages == [{
                    "role": "user",
                    "content": request.task.task + ' (be quick) {"command": "..."}',
                }]
                return request.task.gold_command

        def pytest_shelleval_model(name, settings):
            return Model()
        """
    )
    done = evaluation.run("--shelleval-model=x", "--shelleval-prompt=prompt.txt")
    done.assert_outcomes(passed=3)


def test_a_verdict_that_changes_is_told_apart(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(
        """
        scores = iter([1, 0, 1, 1])

        def pytest_shelleval_score(task, result, sandbox):
            assert sandbox.exec("test -e before", timeout=5).exit_code == 1  # a fresh one
            sandbox.exec("touch before", timeout=5)
            return next(scores) if task.task_id == "copy" else None
        """
    )
    args = ("--shelleval-model=oracle", "--shelleval-executions=4", *mode)
    done = evaluation.run(*args)
    done.assert_outcomes(passed=2, errors=1)
    shown = done.stdout.str()
    assert "flaky error: the verdict changes: 3 of 4 executions of the same command" in shown
    assert "errors by kind: flaky 1" in shown
    lines = {line["task_id"]: line for line in evaluation.lines("results.jsonl")}
    assert lines["count"]["executions"] == ["passed"] * 4
    assert lines["copy"]["executions"] == ["passed", "failed", "passed", "passed"]
    assert (lines["copy"]["status"], lines["copy"]["error_kind"]) == ("error", "flaky")
    assert evaluation.summary()["by_error_kind"] == {"flaky": 1}
