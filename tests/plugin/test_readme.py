"""What the documentation shows: commands, a run, messages, links."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import pytest_shelleval
from pytest_shelleval import plugin
from pytest_shelleval.adapter import hookspecs as hooks
from pytest_shelleval.cli.main import build_parser
from pytest_shelleval.core.results import ErrorKind
from pytest_shelleval.core.stats import mcnemar_exact, wilson_interval
from tests.documented import Call, calls_of, shell_blocks
from tests.models.chat_server import ChatServer, completion
from tests.support import ROWS, Evaluation

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/*.md"))),
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("conftest_examples/*/README.md"))),
]


@pytest.mark.parametrize("page", PAGES)
def test_the_parsers_take_every_command(
    page: str, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = evaluation.folder
    monkeypatch.chdir(folder)
    if (ini := (ROOT / page).with_name("pytest.ini")).exists():
        shutil.copy(ini, folder)
    for block in shell_blocks((ROOT / page).read_text()):
        for call in calls_of(block, folder):
            if call.program == "shelleval":
                build_parser().parse_args(call.arguments)
            elif call.program == "pytest":
                parse(evaluation, call)


def parse(evaluation: Evaluation, call: Call) -> None:
    """Have pytest and the plugin read the arguments; raises pytest.UsageError for wrong ones."""
    arguments = []
    for argument in call.arguments:
        name = argument.removeprefix("--shelleval-dataset=")
        if name != argument and name.endswith(".jsonl"):
            evaluation.rows(*ROWS, name=name)
        elif name != argument:  # on the hub
            argument = "--shelleval-dataset=tasks.jsonl"
        arguments.append(argument)
    command = {**ROWS[0], "generated_command": "true"}
    evaluation.rows(command, name="evaluation_results/commands.jsonl")
    evaluation.rows(command, name="commands.jsonl")
    plugins = ("pytest_shelleval.plugin", "xdist", "pytest_jsonreport.plugin")
    evaluation.pytester.parseconfig(*(f"-p{plugin}" for plugin in plugins), *arguments)


README = (ROOT / "README.md").read_text()
REALLY = """
case " $* " in *sos-*|*rootfs*|*deathbyknowledge*|*batch*) exit 0;; *--shelleval-*) ;; *) exit 0;; esac
case "$*" in *--shelleval-base-url*) set -- "$@" --shelleval-base-url="$OPENAI_BASE_URL";; esac
exec {command} "$@" -n 0
"""
"""Run it, unless it needs a server, an image, a network or a day, or is the project's own tests."""


def test_the_readme_from_top_to_bottom(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ChatServer()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    known = {row["task"]: row["gold_command"] for row in evaluation_rows(evaluation)}
    server.answer = lambda request: completion(
        json.dumps({"command": known[request["messages"][0]["content"].splitlines()[0]]})
    )
    examples = evaluation.folder / "conftest_examples"
    shutil.copytree(ROOT / "conftest_examples" / "quickstart", examples / "quickstart")
    command = shlex.join(evaluation.command(dataset=None))
    try:
        calls = calls_of(
            "\n".join(shell_blocks(README)),
            evaluation.folder,
            really={"pytest": REALLY.format(command=command)},
        )
    finally:
        server.close()
    assert len([call for call in calls if call.program == "pytest"]) > 7
    assert set(evaluation.statuses().values()) == {"passed"}
    assert {request["model"] for request in server.requests} == {"gpt-4o-mini", "my-model"}


def evaluation_rows(evaluation: Evaluation) -> list[dict[str, str]]:
    rows = ROWS[:2]
    evaluation.rows(*rows)
    return rows


def test_the_picture_is_of_a_real_run(evaluation: Evaluation) -> None:
    picture = README.partition("```text\n")[2].partition("```")[0]
    typed = shlex.split(picture.splitlines()[0])
    assert typed[:2] == ["$", "pytest"]
    shutil.copytree(ROOT / "conftest_examples", evaluation.folder / "conftest_examples")
    done = evaluation.run(*typed[2:], dataset=None)
    assert _lasting(picture.splitlines()) == _lasting(done.outlines)


def test_the_first_command_needs_nothing_that_only_the_tests_need(tmp_path: Path) -> None:
    """In the project's folder pytest loads tests/conftest.py, whatever it is to run."""
    (command,) = (line for line in README.splitlines() if "pip install -e . && pytest" in line)
    typed = shlex.split(command.partition("&& pytest")[2])
    script = "import sys\nfor name in ('hypothesis', 'playwright', 'docker', 'starlette'):\n"
    script += "    sys.modules[name] = None\nimport pytest\nsys.exit(pytest.main(sys.argv[1:]))"
    plugins = ["-p", "pytest_shelleval.plugin", "-p", "xdist", "-p", "no:cacheprovider"]
    ours = ("PYTEST_XDIST", "PYTEST_ADDOPTS", "SHELLEVAL_")  # of the run that this test is in
    kept = {name: it for name, it in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        [sys.executable, "-c", script, *plugins, *typed, f"--shelleval-output-dir={tmp_path}"],
        cwd=ROOT,
        env={**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 passed" in done.stdout


def _lasting(lines: list[str]) -> str:
    """What *lines* say from the failures on to the report, without how long it took."""
    text = "\n".join(lines) + "\n"
    start = re.search(r"^=+ FAILURES =+$", text, re.MULTILINE)
    assert start
    part = text[start.start() :].partition("\nreport: ")
    return (
        re.sub(r"^(?:slowest|time in all sandboxes): (?:.+\n)+", "", part[0], flags=re.M)
        + part[2].partition("\n")[0]
    )


def test_the_messages_are_those_of_the_program() -> None:
    texts = "\n".join(_texts())
    table = README.partition("| message |")[2].partition("\n\n")[0]
    messages = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(messages) > 12
    for message in messages:
        pieces = [piece.strip(" :") for piece in message.split("...")]
        kind, _, rest = pieces[0].partition(" error")
        assert (kind in get_args(ErrorKind) and not rest) or all(
            piece in texts for piece in pieces
        ), message


def _texts() -> Iterator[str]:
    """Every text in the package's source."""
    for path in Path(pytest_shelleval.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) for part in node.values if isinstance(part, ast.Constant)
                )


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif not link.startswith("http"):
            assert (ROOT / page).parent.joinpath(link.partition("#")[0]).exists(), link


def _python(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


def test_the_sandbox_and_the_script_of_the_guide(evaluation: Evaluation) -> None:
    sandbox, script = _python("docs/extending.md")
    evaluation.pytester.makeconftest(sandbox)
    evaluation.run("--shelleval-model=oracle").assert_outcomes(passed=3)
    assert {line["sandbox"]["kind"] for line in evaluation.lines("results.jsonl")} == {"folder"}
    (evaluation.folder / "script.py").write_text(script)
    done = evaluation.pytester.run(sys.executable, "script.py")
    assert done.outlines == ["passed"]


def test_the_guide_names_every_hook_and_fixture() -> None:
    guide = (ROOT / "docs" / "extending.md").read_text()
    for name, hook in vars(hooks).items():
        if name.startswith("pytest_shelleval_"):
            taken = ", ".join(inspect.signature(hook).parameters)
            shown = re.search(rf"`{name}\(([^)]*)\)`", guide)
            assert shown, name
            assert re.sub(r": [^,]+", "", shown[1]) == taken
    for name in plugin.__all__:
        assert f"| `{name}` |" in guide


def test_the_tables_of_the_statistics_are_right() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text()
    widths = re.findall(
        r"^\| (\d+) \| (\d+) to (\d+) \| (\d+) to (\d+) \| (\d+) to (\d+) \|$", page, re.M
    )
    assert len(widths) == 6
    for row in widths:
        tasks, *bounds = map(int, row)
        real = [
            100 * end for rate in (0.5, 0.75, 0.95) for end in wilson_interval(rate * tasks, tasks)
        ]
        assert [round(end) for end in real] == bounds
    needed = re.findall(r"^\| (\d+) \| (\d+) \|$", page, re.M)
    assert len(needed) == 5
    for broken, fixed in ((int(a), int(b)) for a, b in needed):
        assert mcnemar_exact(broken, fixed) < 0.05 <= mcnemar_exact(broken, fixed - 1)
