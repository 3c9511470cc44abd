"""The main job: dataset in, verdicts and files out; with xdist, with -n 0 and without xdist."""

from __future__ import annotations

import json
from typing import Any

import datasets  # not in the test: pytester would have it imported twice
import pytest

from tests.support import ROWS, Evaluation

BAD_SETUP = {
    "task_id": "bad-setup",
    "task": "Anything",
    "setup_commands": ["true", "echo broken; exit 3"],
    "success_condition": "true",
    "gold_command": "true",
}
NO_GOLD = {"task_id": "no-gold", "task": "Anything", "success_condition": "true"}
WRONG = {
    "task_id": "wrong",
    "task": "Make x",
    "setup_commands": ["echo preparing"],
    "success_condition": "echo looking; test -e x",
    "gold_command": "printf 'made \\033[31mnothing\\033[0m\\n'",
}


@pytest.mark.every_mode
def test_the_oracle_passes_and_all_files_are_complete(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    done = evaluation.run("--shelleval-model=oracle", *mode)
    done.assert_outcomes(passed=3)
    assert done.ret == 0
    assert evaluation.statuses() == {"make-file": "passed", "copy": "passed", "count": "passed"}
    assert {line["task_id"] for line in evaluation.lines("commands.jsonl")} == {
        row["task_id"] for row in ROWS
    }
    summary = evaluation.summary()
    assert summary["complete"] is True
    assert (summary["total_samples"], summary["success_rate"]) == (3, 1.0)
    assert summary["by_tag"]["files"]["total"] == 2
    done.stdout.fnmatch_lines(
        [
            "selected 3, run 3, errors 0, scored 3",
            "oracle: 100.0 % passed, 3 of 3 (95 % interval 43.9 to 100.0 %)",
            "report: evaluation_results/report.html",
        ]
    )


def test_noop_fails_every_task_and_none_is_an_error(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    done = evaluation.run("--shelleval-model=noop", *mode)
    done.assert_outcomes(failed=3)
    assert done.ret == 1
    assert set(evaluation.statuses().values()) == {"failed"}


@pytest.mark.every_mode
def test_errors_are_not_failures(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    evaluation.rows(*ROWS, BAD_SETUP, NO_GOLD, WRONG)
    done = evaluation.run("--shelleval-model=oracle", *mode)
    done.assert_outcomes(passed=3, failed=1, errors=2)
    statuses = evaluation.statuses()
    assert (statuses["bad-setup"], statuses["no-gold"], statuses["wrong"]) == (
        "error",
        "error",
        "failed",
    )
    summary = evaluation.summary()
    assert summary["by_error_kind"] == {"setup": 1, "inference": 1}
    assert (summary["errored_samples"], summary["scored_samples"]) == (2, 4)
    assert summary["failed_samples"] == 3
    said = pytest.version_tuple >= (9,)  # before, its summary has no reasons for such reports
    setup = " - setup error: setup failed with exit code 3" if said else ""
    wrong = " - the success condition is not met (exit code 1)" if said else ""
    done.stdout.fnmatch_lines_random(
        [
            "selected 6, run 6, errors 2, scored 4",
            f"*ERROR tasks.jsonl::bad-setup{setup}",
            f"*FAILED tasks.jsonl::wrong{wrong}",
        ]
    )


def test_a_failure_shows_what_was_run_with_control_characters_written_out(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.rows(WRONG)
    done = evaluation.run("--shelleval-model=oracle", *mode)
    done.stdout.fnmatch_lines(
        [
            "the success condition is not met (exit code 1)",
            "task       Make x",
            "setup      $ echo preparing",
            "           | preparing",
            "command    $ printf *",
            "           exit code 0",
            r"           | made \x1b[[]31mnothing\x1b[[]0m",
            "condition  $ echo looking; test -e x",
            "           exit code 1",
            "           | looking",
            "reproduce  shelleval reproduce evaluation_results wrong",
        ]
    )
    assert "\x1b[31m" not in done.stdout.str()
    assert "Traceback" not in done.stdout.str()


@pytest.mark.every_mode
def test_bytes_that_are_no_text_do_not_break_anything(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    command = r"printf '\xff\xfe\x00half \xe2\x82'; printf '\xed\xa0\x80'; false"
    evaluation.rows({**WRONG, "gold_command": command})
    evaluation.run("--shelleval-model=oracle", *mode).assert_outcomes(failed=1)
    (line,) = evaluation.lines("results.jsonl")
    assert line["command_output"].startswith("\\xff\\xfe")


def test_steps_separate_and_shared(evaluation: Evaluation) -> None:
    row: dict[str, Any] = {
        "task": "Say where",
        "setup_commands": ["mkdir -p deep", "cd deep", "x=1"],
        "success_condition": '[ "$(cat where.txt)" = "$PWD:1" ] && [ "${PWD##*/}" = deep ]',
        "gold_command": 'echo "$PWD:$x" > where.txt',
    }
    evaluation.rows({**row, "id": "plain"}, {**row, "id": "asks", "steps": "shared"})
    evaluation.run("--shelleval-model=oracle")
    assert evaluation.statuses() == {"plain": "failed", "asks": "passed"}
    evaluation.run("--shelleval-model=oracle", "--shelleval-steps=shared")
    assert evaluation.statuses() == {"plain": "passed", "asks": "passed"}


def test_limits_and_time_outs_are_the_models_failure(evaluation: Evaluation) -> None:
    base = {"task": "x", "success_condition": "true"}
    evaluation.rows(
        {**base, "id": "slow", "gold_command": "sleep 60"},
        {**base, "id": "own", "gold_command": "sleep 60", "timeout": 0.3},
        {**base, "id": "fast", "gold_command": "true"},
    )
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-command-timeout=0.5")
    done.assert_outcomes(passed=1, failed=2)
    timed_out = {line["task_id"]: line["timed_out"] for line in evaluation.lines("results.jsonl")}
    assert timed_out == {"slow": True, "own": True, "fast": False}
    assert "the command timed out" in done.stdout.str()


def test_a_run_without_shelleval_is_plain_pytest(evaluation: Evaluation) -> None:
    evaluation.pytester.makepyfile("def test_it(): pass")
    done = evaluation.run("-v", dataset=None)
    done.assert_outcomes(passed=1)
    done.stdout.no_fnmatch_line("*shelleval:*")
    done.stdout.no_fnmatch_line("*= shelleval =*")
    assert not evaluation.output.exists()


def test_options_from_the_environment_and_the_ini_file(
    evaluation: Evaluation, monkeypatch: Any
) -> None:
    evaluation.pytester.makeini(
        "[pytest]\nshelleval_dataset = tasks.jsonl\nshelleval_output_dir = out\n"
    )
    monkeypatch.setenv("SHELLEVAL_MODEL", "oracle")
    evaluation.run(dataset=None).assert_outcomes(passed=3)
    assert (evaluation.folder / "out" / "summary.json").is_file()


def test_samples_and_models_give_items_of_their_own(evaluation: Evaluation) -> None:
    done = evaluation.run(
        "--shelleval-model=oracle", "--shelleval-model=noop", "--shelleval-samples=2", "-v"
    )
    done.assert_outcomes(passed=6, failed=6)
    done.stdout.fnmatch_lines(
        ["tasks.jsonl::copy[[]oracle-1] PASSED*", "tasks.jsonl::copy[[]noop-0] FAILED*"]
    )
    summary = evaluation.summary()
    assert summary["by_model"]["oracle"]["pass_at_k"] == {"1": 1.0, "2": 1.0}
    assert summary["by_model"]["noop"]["success_rate"] == 0.0


def test_beside_ordinary_tests(evaluation: Evaluation) -> None:
    evaluation.pytester.makepyfile(test_unit="def test_it(): pass\ndef test_bad(): assert 0")
    done = evaluation.run("--shelleval-model=oracle", "test_unit.py")
    done.assert_outcomes(passed=4, failed=1)
    assert evaluation.summary()["total_samples"] == 3
    done = evaluation.run("--shelleval-model=oracle")
    done.assert_outcomes(passed=3)


def test_a_dataset_outside_of_rootdir_and_in_another_format(
    evaluation: Evaluation, mode: tuple[str, ...], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("elsewhere")
    rows = [{**row, "setup_commands": None, "tags": None} for row in ROWS[:1]]
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "t.parquet"))
    (folder / "u.json").write_text(json.dumps(ROWS[1:]))
    evaluation.pytester.makeconftest(
        "import pytest\n@pytest.fixture\ndef shelleval_task(shelleval_task):\n"
        "    print('own fixture')\n    return shelleval_task\n"
    )
    done = evaluation.run(
        "--shelleval-model=oracle",
        f"--shelleval-dataset={folder / 'u.json'}",
        "-v",
        "-rP",
        *mode,
        dataset=str(folder / "t.parquet"),
    )
    done.assert_outcomes(passed=3)
    assert done.stdout.str().count("own fixture") == 3
    done.stdout.fnmatch_lines_random(["*t.parquet::make-file*", "*u.json::count*"])


PATHS = [
    # how the user writes it, its node id
    ("sub/../tasks.jsonl", "tasks.jsonl"),
    ("../elsewhere/tasks.jsonl", "../elsewhere/tasks.jsonl"),
    ("tasks.jsonl/", "tasks.jsonl"),
    ("a file.jsonl", "a file.jsonl"),
    ("linked file.jsonl", "linked file.jsonl"),
    ("linked/tasks.jsonl", "linked/tasks.jsonl"),
    ("{behind}/tasks.jsonl", "tasks.jsonl"),
]


@pytest.fixture
def project(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """A project with datasets for each of PATHS, in which the test runs pytest."""
    top = evaluation.folder
    evaluation.folder = folder = top / "project"
    for name in ("project/tasks", "project/a file", "elsewhere/tasks", "beside"):
        evaluation.rows(*ROWS, name=f"../{name}.jsonl")
    (folder / "sub").mkdir()
    (folder / "linked file.jsonl").symlink_to("tasks.jsonl")
    (folder / "linked").symlink_to("../elsewhere")
    (top / "behind").symlink_to("project")
    evaluation.pytester.makefile(".ini", **{"project/pytest": "[pytest]\n"})
    monkeypatch.chdir(folder)
    return evaluation


@pytest.mark.parametrize(("path", "nodeid"), PATHS, ids=[path for path, _ in PATHS])
def test_a_dataset_path_in_any_spelling(
    project: Evaluation, mode: tuple[str, ...], path: str, nodeid: str
) -> None:
    path = path.format(behind=project.folder.parent / "behind")
    oracle = "--shelleval-model=oracle"
    done = project.run(oracle, "-v", *mode, dataset=path)
    done.assert_outcomes(passed=3)
    assert set(project.statuses().values()) == {"passed"}
    done.stdout.fnmatch_lines_random([f"*{nodeid}::copy*"])
    # as the user writes it, and as pytest does
    for named in (path.rstrip("/"), nodeid):
        project.run(oracle, f"{named}::copy", *mode, dataset=path).assert_outcomes(passed=1)
    done = project.run(oracle, f"--deselect={nodeid}::copy", *mode, dataset=path)
    done.assert_outcomes(passed=2, deselected=1)


def test_a_dataset_path_that_goes_up_from_a_linked_folder(project: Evaluation) -> None:
    done = project.run("--shelleval-model=oracle", "-v", dataset="linked/../beside.jsonl")
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines_random(["*../beside.jsonl::copy*"])


@pytest.mark.parametrize("folder", ["../elsewhere", "linked", "sub/../../elsewhere"])
def test_a_commands_file_path_in_any_spelling(
    project: Evaluation, mode: tuple[str, ...], folder: str
) -> None:
    name = f"--shelleval-commands-file={folder}/com mands.jsonl"
    project.run("--shelleval-model=oracle", "--shelleval-phase=inference", name)
    assert (project.folder.parent / "elsewhere" / "com mands.jsonl").exists()
    done = project.run("--shelleval-phase=execution", name, *mode, dataset=None)
    done.assert_outcomes(passed=3)
    assert set(project.statuses().values()) == {"passed"}
    done = project.run("--shelleval-phase=execution", name, *mode)
    done.assert_outcomes(passed=3)
