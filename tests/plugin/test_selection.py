"""pytest's own options work on tasks as on tests."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import ROWS, Evaluation


@pytest.mark.parametrize(
    ("args", "expected", "deselected"),
    [
        (["-k", "copy or count"], {"copy", "count"}, 1),
        (["-k", "text"], {"count"}, 2),
        (["-m", "shelleval(tag='easy')"], {"make-file"}, 2),
        (["-m", "shelleval(difficulty_level='hard')"], {"count"}, 2),
        (["--deselect", "tasks.jsonl::copy"], {"make-file", "count"}, 1),
        (["tasks.jsonl::copy"], {"copy"}, 0),
        (["--shelleval-max-samples=2"], {"make-file", "copy"}, 0),
    ],
)
def test_selection(
    evaluation: Evaluation, args: list[str], expected: set[str], deselected: int
) -> None:
    done = evaluation.run("--shelleval-model=oracle", "--strict-markers", *args)
    done.assert_outcomes(passed=len(expected), deselected=deselected)
    assert set(evaluation.statuses()) == expected
    # the model was asked for no more than that
    assert {line["task_id"] for line in evaluation.lines("commands.jsonl")} == expected
    assert evaluation.summary()["complete"] is True


@pytest.mark.every_mode
def test_last_failed(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    bad = {**ROWS[0], "task_id": "bad", "gold_command": "false"}
    evaluation.rows(*ROWS, bad)
    evaluation.run("--shelleval-model=oracle", *mode).assert_outcomes(passed=3, failed=1)
    evaluation.run("--shelleval-model=oracle", "--lf", *mode).assert_outcomes(failed=1)
    assert evaluation.statuses() == {"bad": "failed"}


def test_stopping_early_leaves_a_partial_run(evaluation: Evaluation) -> None:
    evaluation.rows(*[{**ROWS[0], "task_id": f"t{n}"} for n in range(60)])
    for option in ("-x", "--maxfail=1"):
        done = evaluation.run("--shelleval-model=noop", option, "--shelleval-fail-under=0")
        assert done.ret == 1
        done.assert_outcomes(failed=1)
        finished = len(evaluation.statuses())  # those that were executed ahead are kept
        assert 1 <= finished < 60
        summary = evaluation.summary()
        assert (summary["complete"], summary["total_samples"], summary["unrun_samples"]) == (
            False,
            60,
            60 - finished,
        )
        done.stdout.fnmatch_lines(
            [f"PARTIAL RUN: {60 - finished} of 60 selected commands have no result"]
        )


def test_junit_xml(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    evaluation.rows(
        *ROWS,
        {**ROWS[0], "task_id": "bad", "gold_command": "echo said; false"},
        {**ROWS[0], "task_id": "err", "setup_commands": ["false"]},
    )
    evaluation.run("--shelleval-model=oracle", "--junitxml=report.xml", *mode)
    suite = ElementTree.parse(evaluation.folder / "report.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "1")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    properties = {each.get("name"): each.get("value") for each in cases["copy"].iter("property")}
    assert properties["status"] == "passed"
    assert properties["command"] == "cp a.txt b.txt"
    failure = cases["bad"].find("failure")
    assert failure is not None
    assert failure.text is not None
    assert "| said" in failure.text


@pytest.mark.every_mode
def test_json_report(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    done = evaluation.run(
        "-p", "pytest_jsonreport.plugin", "-p", "pytest_metadata.plugin", "--shelleval-model=oracle",
        "--json-report", *mode,
    )  # fmt: skip
    assert done.ret == 0
    report = json.loads(Path(evaluation.folder, ".report.json").read_text())
    assert report["shelleval"]["success_rate"] == 1.0
    tests = {test["nodeid"]: test for test in report["tests"]}
    assert {"status": "passed"} in tests["tasks.jsonl::copy"]["user_properties"]


def test_durations_and_setup_show(evaluation: Evaluation) -> None:
    done = evaluation.run("--shelleval-model=oracle", "--durations=3", "-vv", "--setup-show")
    done.stdout.fnmatch_lines_random(
        ["*s setup *tasks.jsonl::*", "*SETUP * shelleval_sandbox (fixtures used:*"]
    )


def test_the_fixtures_are_documented(evaluation: Evaluation) -> None:
    done = evaluation.run("--fixtures", dataset=None)
    text = done.stdout.str()
    for name in ("settings", "commands", "sandboxes", "task", "command", "sandbox"):
        assert f"shelleval_{name}" in text
    assert "no docstring available" not in text[text.index("shelleval_settings") :]


@pytest.mark.parametrize(
    ("plugin", "args"),
    [
        ("pytest_randomly", ["-p", "no:cacheprovider"]),
        ("pytest_timeout", ["--timeout=30"]),
        ("pytest_html.plugin", ["--html=report.html", "-p", "pytest_metadata.plugin"]),
        ("pytest_rerunfailures", ["--reruns=1"]),
    ],
)
def test_beside_other_plugins(
    evaluation: Evaluation, mode: tuple[str, ...], plugin: str, args: list[str]
) -> None:
    done = evaluation.run("-p", plugin, "--shelleval-model=oracle", *args, *mode)
    done.assert_outcomes(passed=3)
    assert len(evaluation.statuses()) == 3


def test_reruns_are_all_recorded_and_the_last_counts(evaluation: Evaluation) -> None:
    evaluation.rows({**ROWS[0], "gold_command": "false"})
    evaluation.run("-p", "pytest_rerunfailures", "--reruns=2", "--shelleval-model=oracle")
    assert len(evaluation.lines("results.jsonl")) == 3
    summary = evaluation.summary()
    assert (summary["total_samples"], summary["failed_samples"]) == (1, 1)


SILENT = """
    class Silent:
        async def generate(self, request):
            return "I am sorry, but I would rather not do that."

    def pytest_shelleval_model(name, settings):
        return Silent() if name == "silent" else None
"""


@pytest.mark.every_mode
@pytest.mark.parametrize("args", [[], ["--reruns=1"]])
def test_rerunfailures_and_a_reply_without_a_command(
    evaluation: Evaluation, mode: tuple[str, ...], args: list[str]
) -> None:
    evaluation.pytester.makeconftest(SILENT)
    evaluation.rows(ROWS[0])
    done = evaluation.run("-p", "pytest_rerunfailures", "--shelleval-model=silent", *args, *mode)
    done.assert_outcomes(failed=1)
    statuses = [line["status"] for line in evaluation.lines("results.jsonl")]
    assert statuses == ["failed"] * (1 + len(args))


def test_conftest_sees_each_phase_as_it_was_run(evaluation: Evaluation) -> None:
    evaluation.pytester.makeconftest(
        SILENT
        + """
    import pytest

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(item, call):
        report = yield
        print("\\nPHASE", call.when, report.when, report.outcome)
        return report
    """
    )
    evaluation.rows(ROWS[0])
    done = evaluation.run("--shelleval-model=silent", "-s", "-n", "0")
    phases = [line for line in done.outlines if line.startswith("PHASE")]
    assert phases == ["PHASE setup setup failed", "PHASE teardown teardown passed"]
    done.assert_outcomes(failed=1)


def test_a_terminal_reporter_that_does_not_say_if_it_can_redraw(evaluation: Evaluation) -> None:
    evaluation.pytester.makeconftest(
        """
        import pytest

        class Plain:
            \"\"\"As that of pytest-tldr.\"\"\"

            def __init__(self, config):
                self.config = config

            def write_line(self, line):
                print(line)

            def ensure_newline(self):
                print()

            def section(self, title):
                print("PLAIN", title)

            def pytest_sessionfinish(self, exitstatus):
                self.config.hook.pytest_terminal_summary(
                    config=self.config, terminalreporter=self, exitstatus=exitstatus
                )

        @pytest.hookimpl(trylast=True)
        def pytest_configure(config):
            config.pluginmanager.unregister(name="terminalreporter")
            config.pluginmanager.register(Plain(config), "terminalreporter")
        """
    )
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-validate", "-n", "0", "-s")
    assert done.ret == 0
    assert set(evaluation.statuses().values()) == {"passed"}
    done.stdout.fnmatch_lines(
        ["shelleval validation: *", "shelleval inference: 3/3 *", "PLAIN shelleval", "report: *"]
    )
