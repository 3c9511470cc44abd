"""In GitHub Actions no text of a model, a dataset or a sandbox gives the runner an order."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator

import pytest

from pytest_shelleval.cli.main import main
from tests.support import ROWS, Evaluation

EVIL = "::stop-commands::x\r::add-mask::a\n \t\xa0::error::forged\nsaid ##[error]forged"
HEREDOC = f"cat <<'E'\n{EVIL}\nE\n"
ROW = {
    "task_id": "evil",
    "task": EVIL,
    "setup_commands": f": '{EVIL}'",
    "success_condition": f"{HEREDOC}false",
    "gold_command": HEREDOC,
    "tags": ["##[error]tag", "::error::tag"],
}
ORACLE = "--shelleval-model=oracle"


def orders(text: str) -> Iterator[str]:
    """The lines of *text* that GitHub's runner takes for workflow commands, as its source has it."""
    for line in re.split(r"\r\n|\r|\n", text):
        if line.lstrip().startswith("::") or "##[" in line:
            yield line


@pytest.fixture(autouse=True)
def in_github_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")


def output(done: pytest.RunResult) -> str:
    return done.stdout.str() + "\n" + done.stderr.str()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_failed_is_shown_and_orders_nothing(evaluation: Evaluation, workers: str) -> None:
    evaluation.rows(ROW, *ROWS)
    debug = ("--log-level=DEBUG", "--shelleval-log-level=debug")
    done = evaluation.run(ORACLE, "-n", workers, "-vv", "-rA", *debug)
    done.assert_outcomes(passed=3, failed=1)
    text = output(done)
    assert list(orders(text)) == []
    assert r"said #\u0023[error]forged" in text
    commands = [line["generated_command"] for line in evaluation.lines("results.jsonl")]
    assert HEREDOC in commands  # files have it as it is


def test_the_run_s_own_annotations_are_still_orders(evaluation: Evaluation) -> None:
    evaluation.rows(ROW)
    done = evaluation.run(ORACLE, "--shelleval-fail-under=1")
    (line,) = orders(output(done))
    assert line.startswith("::error title=shelleval gate::")


def test_a_hook_s_traceback(evaluation: Evaluation) -> None:
    evaluation.pytester.makeconftest(
        "def pytest_shelleval_score(task, result, sandbox):\n"
        "    print(result.command_output)\n"
        "    raise RuntimeError(result.command_output)\n"
    )
    evaluation.rows(ROW)
    for style in ("long", "native", "line"):
        done = evaluation.run(ORACLE, f"--tb={style}", "-l")
        text = output(done)
        assert list(orders(text)) == []
        assert "forged" in text


def test_an_internal_error(evaluation: Evaluation) -> None:
    evaluation.pytester.makeconftest(
        f"def pytest_runtestloop(session):\n    raise RuntimeError({EVIL!r})\n"
    )
    text = output(evaluation.run(ORACLE))
    assert "INTERNALERROR" in text
    assert list(orders(text)) == []


def test_live_log(evaluation: Evaluation) -> None:
    evaluation.rows(ROW)
    live = ("-o", "log_cli=true", "--log-cli-level=DEBUG", "--shelleval-log-level=debug")
    text = output(evaluation.run(ORACLE, *live))
    assert r"said #\u0023[error]forged" in text
    assert list(orders(text)) == []


def test_rows_that_are_refused(evaluation: Evaluation) -> None:
    evaluation.rows({**ROW, "timeout": "##[error]x"})
    done = evaluation.run(ORACLE)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "error]x" in output(done)
    assert list(orders(output(done))) == []


def test_rows_that_are_found_faulty(evaluation: Evaluation) -> None:
    evaluation.rows(ROW)
    done = evaluation.run(ORACLE, "--shelleval-validate")
    assert "1 of 1 rows are faulty" in output(done)
    assert list(orders(output(done))) == []


def test_the_command_line(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = evaluation.rows(ROW)
    evaluation.run(ORACLE)
    folder = str(evaluation.output)
    monkeypatch.setattr("sys.stdin", io.StringIO("cat it\n"))
    for arguments in (
        ["compare", folder, folder],
        ["compare", "--json", folder, folder],
        ["reproduce", "--check", folder, "evil"],
        ["validate", str(path)],
        ["validate", str(path), "--json=-"],
        ["reproduce", folder, EVIL],
    ):
        main(arguments)
        said = capsys.readouterr()
        assert said.out or said.err
        assert list(orders(said.out)) == []
        assert list(orders(said.err)) == []
        if "--json" in arguments or "--json=-" in arguments:
            json.loads(said.out)
