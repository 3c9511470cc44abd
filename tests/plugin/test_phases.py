"""The phases apart, the cache between them, and the gate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.batch_server import BatchServer
from tests.support import MODES, ROWS, Evaluation

MODEL = """
from pathlib import Path

class Counting:
    name = "counting"

    async def generate(self, request):
        with Path("asked.txt").open("a") as file:
            file.write(request.task.task_id + "\\n")
        if Path("broken").exists() and request.task.task_id == "copy":
            raise RuntimeError("the server said no")
        return request.task.gold_command

def pytest_shelleval_model(name, settings):
    return Counting() if name == "counting" else None
"""


@pytest.fixture
def batches() -> Iterator[BatchServer]:
    server = BatchServer()
    yield server
    server.close()


def asked(evaluation: Evaluation) -> list[str]:
    path = evaluation.folder / "asked.txt"
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


@pytest.mark.every_mode
def test_inference_then_execution(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    evaluation.pytester.makeconftest(MODEL)
    done = evaluation.run("--shelleval-model=counting", "--shelleval-phase=inference", *mode)
    assert done.ret == 0
    assert asked(evaluation) == ["copy", "count", "make-file"]
    assert not (evaluation.output / "results.jsonl").exists()
    done.stdout.fnmatch_lines(["inference: 3 asked, 0 cached, 0 without a command, *"])
    done = evaluation.run("--shelleval-phase=execution", *mode)
    done.assert_outcomes(passed=3)
    assert asked(evaluation) == []
    assert {line["model"] for line in evaluation.lines("results.jsonl")} == {"counting"}


def test_execution_of_a_file_made_elsewhere_without_the_dataset(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    old = [
        {
            "task_id": f"task_{number}",
            "task": row["task"],
            "setup_commands": row.get("setup_commands"),
            "success_condition": row["success_condition"],
            "generated_command": None if number == 1 else row["gold_command"],
            "timestamp": "2025-05-05T05:05:05.123456",
            "confidence": 0.5,
        }
        for number, row in enumerate(ROWS)
    ]
    evaluation.rows(*old, name="made/elsewhere.jsonl")
    done = evaluation.run(
        "--shelleval-phase=execution",
        "--shelleval-commands-file=made/elsewhere.jsonl",
        *mode,
        dataset=None,
    )
    done.assert_outcomes(passed=2, errors=1)
    assert evaluation.statuses() == {"task_0": "passed", "task_1": "error", "task_2": "passed"}
    assert all(line["confidence"] == 0.5 for line in evaluation.lines("results.jsonl"))


def test_execution_of_a_file_that_several_runs_have_filled(evaluation: Evaluation) -> None:
    evaluation.rows(ROWS[0], name="first.jsonl")
    evaluation.rows(ROWS[1], name="second.jsonl")
    evaluation.run("--shelleval-model=oracle", dataset="first.jsonl").assert_outcomes(passed=1)
    evaluation.run("--shelleval-model=noop", dataset="second.jsonl").assert_outcomes(failed=1)
    done = evaluation.run("--shelleval-phase=execution", dataset=None)
    done.assert_outcomes(passed=1, failed=1)
    found = [(line["task_id"], line["model"]) for line in evaluation.lines("results.jsonl")]
    assert found == [("make-file", "oracle"), ("copy", "noop")]
    # with the dataset, what has no command counts
    done = evaluation.run("--shelleval-phase=execution", dataset="first.jsonl")
    done.assert_outcomes(passed=1, errors=1)


def test_execution_of_a_file_with_several_samples(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.rows(ROWS[0], name="first.jsonl")
    evaluation.rows(ROWS[1], name="second.jsonl")
    args = ("--shelleval-model=oracle", "--shelleval-phase=inference")
    evaluation.run(*args, "--shelleval-samples=3", dataset="first.jsonl")
    evaluation.run(*args, dataset="second.jsonl")
    execution = "--shelleval-phase=execution"
    done = evaluation.run(execution, "-v", *mode, dataset=None)
    # a task has as many samples as the file has at most; where one is missing, that is told
    done.assert_outcomes(passed=4, errors=2)
    found = {
        (line["task_id"], line["sample"]): line["status"]
        for line in evaluation.lines("results.jsonl")
    }
    assert found == {
        **dict.fromkeys(
            (("make-file", 0), ("make-file", 1), ("make-file", 2), ("copy", 0)), "passed"
        ),
        **dict.fromkeys((("copy", 1), ("copy", 2)), "error"),
    }
    done.stdout.fnmatch_lines_random(["*::make-file?2? *PASSED*"])
    # the option stands above the file
    done = evaluation.run(execution, "--shelleval-samples=2", *mode, dataset=None)
    done.assert_outcomes(passed=3, errors=1)


def test_execution_takes_conditions_from_the_dataset(evaluation: Evaluation) -> None:
    evaluation.run("--shelleval-model=oracle", "--shelleval-phase=inference")
    evaluation.rows(*[{**row, "success_condition": "false"} for row in ROWS])
    evaluation.run("--shelleval-phase=execution").assert_outcomes(failed=3)
    evaluation.rows(*[{**row, "task": "Something else"} for row in ROWS])
    done = evaluation.run("--shelleval-phase=execution")
    done.assert_outcomes(errors=3)
    assert "for another text of this task" in done.stdout.str()


@pytest.mark.every_mode
def test_only_what_is_missing_or_failed_is_asked_again(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(MODEL)
    (evaluation.folder / "broken").touch()
    done = evaluation.run("--shelleval-model=counting", "-k", "not count", *mode)
    done.assert_outcomes(passed=1, errors=1, deselected=0 if "2" in mode else 1)
    assert asked(evaluation) == ["copy", "make-file"]
    assert "the server said no" in done.stdout.str()
    (evaluation.folder / "broken").unlink()
    done = evaluation.run("--shelleval-model=counting", *mode)
    done.assert_outcomes(passed=3)
    assert asked(evaluation) == ["copy", "count"]
    evaluation.run("--shelleval-model=counting", "--shelleval-refresh", *mode)
    assert asked(evaluation) == ["copy", "count", "make-file"]
    done = evaluation.run("--shelleval-model=counting", "--shelleval-temperature=0", *mode)
    assert asked(evaluation) == ["copy", "count", "make-file"]


def test_a_failed_generation_makes_phase_1_exit_with_1(evaluation: Evaluation) -> None:
    evaluation.pytester.makeconftest(MODEL)
    (evaluation.folder / "broken").touch()
    done = evaluation.run("--shelleval-model=counting", "--shelleval-phase=inference")
    assert done.ret == 1
    done.stdout.fnmatch_lines(["  1 of 3 have no command *the next run asks for them again"])
    lines = {line["task_id"]: line for line in evaluation.lines("commands.jsonl")}
    assert lines["copy"]["generated_command"] is None
    assert "the server said no" in lines["copy"]["error"]


def test_collect_only_asks_nothing(evaluation: Evaluation) -> None:
    evaluation.pytester.makeconftest(MODEL)
    done = evaluation.run("--shelleval-model=counting", "--collect-only", "-q")
    done.stdout.fnmatch_lines(["tasks.jsonl::make-file", "tasks.jsonl::copy"])
    assert asked(evaluation) == []
    assert not evaluation.output.exists()


SANDBOXES = """
def pytest_shelleval_sandboxes(settings):
    Path("sandboxes.txt").touch()
"""


@pytest.mark.every_mode
@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("--setup-plan", "*SETUP * shelleval_sandbox (fixtures used:*"),
        ("--setup-only", "*SETUP * shelleval_sandbox (fixtures used:*"),
        ("--collect-only", "*<TaskItem make-file>*"),
        ("--fixtures-per-test", "*fixtures used by make-file*"),
    ],
)
def test_what_only_shows_asks_and_executes_nothing(
    evaluation: Evaluation, mode: tuple[str, ...], option: str, shown: str
) -> None:
    evaluation.pytester.makeconftest(MODEL + SANDBOXES)
    done = evaluation.run("--shelleval-model=counting", "--shelleval-validate", option, *mode)
    assert done.ret == 0
    if mode != MODES["n2"]:  # the fixtures of pytest-xdist's workers are not shown
        done.stdout.fnmatch_lines([shown])
    assert asked(evaluation) == []
    assert not evaluation.output.exists()
    assert not (evaluation.folder / "sandboxes.txt").exists()


def test_progress_is_lines_in_a_log(evaluation: Evaluation) -> None:
    evaluation.rows(*[{**ROWS[0], "task_id": f"t{n}"} for n in range(20)])
    done = evaluation.run("--shelleval-model=mock", "--shelleval-phase=inference")
    lines = [line for line in done.outlines if line.startswith("shelleval inference: ")]
    assert lines[-1].startswith("shelleval inference: 20/20 from mock")
    assert len(lines) <= 10


@pytest.mark.parametrize(
    ("limit", "status", "verdict"),
    [
        ("0.75", 0, "gate passed: pass rate 75.0 % (3 of 4)"),
        ("0.76", 1, "gate FAILED: pass rate 75.0 %"),
    ],
)
def test_the_gate(
    evaluation: Evaluation, mode: tuple[str, ...], limit: str, status: int, verdict: str
) -> None:
    evaluation.rows(*ROWS, {**ROWS[0], "task_id": "bad", "gold_command": "false"})
    done = evaluation.run("--shelleval-model=oracle", f"--shelleval-fail-under={limit}", *mode)
    assert done.ret == status
    assert verdict in done.stdout.str()


def test_the_gate_does_not_hide_other_failures(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makepyfile(test_unit="def test_bad(): assert 0")
    args = ("--shelleval-model=oracle", "--shelleval-fail-under=0.5", *mode)
    assert evaluation.run(*args).ret == 0
    assert evaluation.run(*args, "test_unit.py").ret == 1


def test_summary_fields(evaluation: Evaluation) -> None:
    evaluation.run("--shelleval-model=oracle", "--shelleval-api-key=sk-secret")
    summary = evaluation.summary()
    for name in [
        "model_name",
        "dataset_path",
        "total_samples",
        "successful_samples",
        "success_rate",
        "failed_samples",
        "evaluation_time",
        "sandbox_image",
        "errored_samples",
        "complete",
        "interval_95",
        "pass_at_k",
        "by_tag",
        "by_error_kind",
        "usage",
        "durations",
        "versions",
        "dataset_sha256",
        "prompt_sha256",
        "git_commit",
        "settings",
    ]:
        assert name in summary
    assert summary["model_name"] == "oracle"
    assert summary["dataset_path"] == "tasks.jsonl"
    for file in Path(evaluation.output).iterdir():
        assert "sk-secret" not in file.read_text()
    json.dumps(summary)


def test_a_reply_without_a_command_is_the_models_failure(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(
        """
        class Chatty:
            async def generate(self, request):
                if request.task.task_id == "copy":
                    return "I am sorry, but I would rather not do that."
                return request.task.gold_command

        def pytest_shelleval_model(name, settings):
            return Chatty()
        """
    )
    done = evaluation.run("--shelleval-model=chatty", *mode)
    done.assert_outcomes(passed=2, failed=1)
    assert evaluation.statuses()["copy"] == "failed"
    assert "no command: " in done.stdout.str()
    evaluation.run("--shelleval-phase=execution", *mode).assert_outcomes(passed=2, failed=1)


def test_an_answer_without_a_command_stays_the_models_failure(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(
        """
        from pathlib import Path

        class Moody:
            async def generate(self, request):
                asked = Path("asked.txt")
                before = asked.read_text() if asked.exists() else ""
                asked.write_text(before + request.task.task_id + "\\n")
                if request.task.task_id == "copy" and "copy" not in before:
                    return "I am sorry, but I would rather not do that."
                return request.task.gold_command

        def pytest_shelleval_model(name, settings):
            return Moody()
        """
    )
    args = ("--shelleval-model=moody", *mode)
    done = evaluation.run(*args, "--shelleval-phase=inference")
    assert done.ret == 0  # there is nothing that asking again could bring
    done.stdout.fnmatch_lines(["  1 of 3 were answered without a command, the model's failure: *"])
    for _ in range(2):
        evaluation.run(*args).assert_outcomes(passed=2, failed=1)
        assert evaluation.statuses()["copy"] == "failed"
    assert asked(evaluation) == ["copy", "count", "make-file"]
    (evaluation.folder / "asked.txt").write_text("copy")
    evaluation.run(*args, "--shelleval-refresh").assert_outcomes(passed=3)


def test_collect_only_says_what_a_run_would_cost(evaluation: Evaluation) -> None:
    args = ("--shelleval-price-input=2", "--shelleval-price-output=8", "--shelleval-max-tokens=100")
    # neither a key nor a server is needed to reckon
    done = evaluation.run("--shelleval-model=some-model", "--collect-only", *args)
    assert done.ret == 0
    done.stdout.fnmatch_lines(
        [
            "inference would make 3 requests; 0 cached",
            "  tokens: about * input, at most 300 output",
            "  cost: at most $0.00*",
        ]
    )
    evaluation.pytester.makeconftest(MODEL)
    evaluation.run("--shelleval-model=counting", "-k", "copy", "--shelleval-phase=inference")
    done = evaluation.run("--shelleval-model=counting", "--collect-only", "-q")
    done.stdout.fnmatch_lines(["inference would make 2 requests; 1 cached"])


def test_a_batch_costs_half(evaluation: Evaluation, batches: BatchServer) -> None:
    batches.polls = 0
    args = (
        "--shelleval-model=m",
        f"--shelleval-base-url={batches.url}",
        "--shelleval-inference=batch",
        "--shelleval-price-input=1000",
        "--shelleval-price-output=10000",
        "--shelleval-max-tokens=100",
    )
    done = evaluation.run(*args, "--collect-only")
    (most,) = [line for line in done.outlines if line.startswith("  cost: at most $")]
    # 300 tokens of replies at half of 1 cent, and the prompts
    assert 1.5 <= float(most.removeprefix("  cost: at most $")) < 1.6
    done = evaluation.run(*args)
    # 3 replies of 5 tokens to prompts of 7
    done.stdout.fnmatch_lines(["  tokens: 21 input, 15 output; cost $0.0855"])
    assert evaluation.summary()["cost"] == 0.0855
    # what was bought in a batch stays cheap in a run that asks one by one
    evaluation.run(*(arg for arg in args if "batch" not in arg))
    assert evaluation.summary()["cost"] == 0.0855
    done = evaluation.run(*args, "--collect-only")
    done.stdout.fnmatch_lines(["inference would make 0 requests; 3 cached"])


SPENDING = """
from pytest_shelleval.models.base import Reply

class Spending:
    name = "spending"
    warnings = ["it likes to spend"]

    async def generate(self, request):
        return Reply(request.task.gold_command, usage={"input_tokens": 100, "output_tokens": 50})

def pytest_shelleval_model(name, settings):
    return Spending()
"""


def test_what_was_spent_is_shown_and_in_the_summary(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(SPENDING)
    args = ("--shelleval-price-input=2", "--shelleval-price-output=8", *mode)
    done = evaluation.run("--shelleval-model=spending", *args)
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines(
        [
            "  tokens: 300 input, 150 output; cost $0.0018",
            "  warning: spending: it likes to spend",
        ]
    )
    assert evaluation.summary()["cost"] == 0.0018


def test_a_spent_budget_ends_the_run_and_keeps_what_was_bought(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.pytester.makeconftest(SPENDING)
    args = ("--shelleval-price-input=2", "--shelleval-price-output=8", "--shelleval-max-tokens=50")
    args = ("--shelleval-model=spending", "--shelleval-inference-concurrency=1", *args, *mode)
    done = evaluation.run(*args, "--shelleval-max-cost=0.0015")
    assert done.ret == 4
    assert "the budget is spent" in done.stderr.str() + done.stdout.str()
    bought = len(evaluation.lines("commands.jsonl"))
    assert 1 <= bought <= 2
    assert not (evaluation.output / "results.jsonl").exists()
    assert evaluation.run(*args, "--shelleval-max-cost=0.0015").ret == 4
    assert len(evaluation.lines("commands.jsonl")) == bought
    evaluation.run(*args).assert_outcomes(passed=3)
    assert len(evaluation.lines("commands.jsonl")) == 3
