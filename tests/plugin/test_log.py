"""debug.log: every request and every step; and secrets, which are in no file and on no terminal."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.chat_server import Answer, ChatServer, completion, error
from tests.support import MODES, ROWS, Evaluation

KEY = "sk-4f1dKnownKeyOfThisTest0042"
PASSWORD = "pass-w0rd-of-an-address"
LINE = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (DEBUG|INFO|WARNING|ERROR) (\w+) ([\w.]+): .+"
)


@pytest.fixture
def chat_server() -> Iterator[ChatServer]:
    """It knows the answers, refuses the first request, and says the key wherever it can."""
    server = ChatServer()
    gold = {row["task"]: row["gold_command"] for row in ROWS}
    server.script = [error(500, f"the key {KEY} is tired", x_request_id="req-first")]

    def answer(request: dict[str, Any]) -> Answer:
        if server.script:
            return server.script.pop(0)
        said = request["messages"][-1]["content"]
        command = next(gold[task] for task in gold if task in said)
        found = completion(json.dumps({"command": command}))
        found.headers = {"x-request-id": f"req-{len(server.requests)}"}
        return found

    server.answer = answer
    yield server
    server.close()


class Watch:
    """Reads the arguments and environments of all processes while something runs."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            for place in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments = place.read_bytes()
                except OSError:
                    continue
                if KEY.encode() in arguments:
                    self.found.add(arguments.decode())


def log(evaluation: Evaluation, name: str = "debug.log") -> str:
    return (evaluation.output / name).read_text()


@pytest.mark.every_mode
def test_each_request_and_each_step(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    done = evaluation.run("--shelleval-model=oracle", "-rA", *mode)
    done.assert_outcomes(passed=3)
    done.stdout.no_fnmatch_line("*Captured log*")
    lines = log(evaluation).splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    found = "\n".join(lines)
    assert re.search(r"INFO main adapter.logs: versions \{.*\"pytest-shelleval\"", found)
    assert re.search(r"INFO main adapter.logs: settings \{.*\"phase\": \"both\"", found)
    for row in ROWS:
        name = re.escape(row["task_id"])
        assert re.search(rf" main models.inference: {name} sample 0: oracle answered, ", found)
        steps = ["setup"] * bool(row.get("setup_commands")) + ["command", "condition"]
        worker = r"gw\d" if mode == MODES["n2"] else "main"
        for step in steps:
            wanted = rf" INFO {worker} core.attempt: {name} oracle sample 0: {step} in (local-\w+): exit code 0, \d+\.\d{{3}} s$"
            assert re.search(wanted, found, re.MULTILINE), found
    assert found.endswith("the run ends: 3 passed; 0 failed; 0 error")
    assert "echo 'Hello World'" not in found


def test_levels_and_the_log_of_the_run_before(evaluation: Evaluation) -> None:
    evaluation.rows({**ROWS[0], "success_condition": "echo 'one\ntwo'; false"})
    evaluation.run("--shelleval-model=oracle", "--shelleval-log-level=debug", "-n", "0")
    detailed = log(evaluation)
    assert r"command was \"echo 'Hello World' > hello.txt\"".replace("\\", "") in detailed
    assert all(LINE.fullmatch(line) for line in detailed.splitlines())  # a line each
    evaluation.run("--shelleval-phase=execution", "--shelleval-log-level=warning", "-n", "0")
    assert log(evaluation) == ""
    assert log(evaluation, "debug.earlier.log") == detailed
    evaluation.run("--shelleval-phase=execution", "--shelleval-resume", "--log-cli-level=INFO")
    assert "core.attempt" not in log(evaluation)  # a verdict is replayed
    done = evaluation.run("--shelleval-log-level=loud", "-n", "0")
    done.stderr.fnmatch_lines(["*--shelleval-log-level*debug, info, warning*error*loud*"])
    done = evaluation.run("--shelleval-phase=execution", "--log-cli-level=INFO", "-p", "no:xdist")
    done.stdout.fnmatch_lines(["*core.attempt*condition in local-*"])  # who asks for logs gets them


def test_a_key_is_nowhere(
    evaluation: Evaluation, chat_server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("SHELLEVAL_SOS_TOKEN", KEY)
    # what a command can see of the host's processes and environment is a result's output
    evaluation.rows(
        *(
            {
                **row,
                "success_condition": f"env; cat /proc/*/environ /proc/*/cmdline; {row['success_condition']}",
            }
            for row in ROWS
        )
    )
    run = (
        "--shelleval-model=some",
        f"--shelleval-base-url={chat_server.url}",
        "--shelleval-sandbox=local",
        f"--shelleval-sos-url=http://me:{PASSWORD}@127.0.0.1:9",
        "--shelleval-log-level=debug",
        "--junitxml=junit.xml",
        "--json-report",
        "-p",
        "pytest_jsonreport",
        *MODES["n2"],
    )
    with Watch() as watch:
        done = evaluation.run(*run)
    done.assert_outcomes(passed=3)
    assert any(KEY in headers["authorization"] for headers in chat_server.headers)
    found = log(evaluation)
    assert "answered 500: the key *** is tired" in found
    assert re.search(r"some answered, .*, request id req-\d", found)
    chat_server.script = [error(401, f"what is {KEY}?")] * 9
    refused = evaluation.run(*run, "--shelleval-refresh")
    refused.stderr.fnmatch_lines(["*401: what is ***?*"])
    assert "what is ***" in log(evaluation)
    assert watch.found == set()
    texts = {
        "terminal": done.stdout.str()
        + done.stderr.str()
        + refused.stdout.str()
        + refused.stderr.str()
    }
    files = [path for path in evaluation.folder.rglob("*") if path.is_file()]
    texts |= {str(path): path.read_text(errors="replace") for path in files}
    assert {"junit.xml", ".report.json", "debug.log", "results.jsonl", "report.html"} <= {
        path.name for path in files
    }
    assert [name for name, text in texts.items() if KEY in text] == []
    texts.pop("terminal")  # pytest itself shows how it was called
    assert [name for name, text in texts.items() if PASSWORD in text] == []


SHOWING = """
def test_own(shelleval_settings):
    key, token = shelleval_settings.api_key, shelleval_settings.sos_token
    headers = {"Authorization": f"Bearer {key}"}
    print(headers, token)
    try:
        raise ValueError(f"refused: {token}")
    finally:
        assert key == "other"
"""


def test_a_key_is_in_no_traceback(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    key, token = (name + "0123456789" * 6 for name in ("sk-", "token-"))
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("SHELLEVAL_SOS_TOKEN", token)
    (evaluation.folder / "test_own.py").write_text(SHOWING)
    run = (*mode, "-l", "test_own.py")
    for done in (
        evaluation.run(*run, dataset=None),
        evaluation.run("--shelleval-model=noop", *run),
    ):
        text = done.stdout.str() + done.stderr.str()
        assert "refused: ***" in text
        assert "'Authorization': 'Bearer ***'" in text
        assert "01234567" not in text
    assert evaluation.statuses()


def test_a_key_is_in_no_internal_error(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (evaluation.folder / "conftest.py").write_text(
        f"def pytest_runtestloop(session):\n    raise RuntimeError(KEY)\nKEY = {KEY!r}\n"
    )
    done = evaluation.run("--shelleval-model=noop", "-n", "0", "--fulltrace")
    done.stdout.fnmatch_lines(["INTERNALERROR> *RuntimeError: [*][*][*]"])
    assert KEY not in done.stdout.str() + done.stderr.str()


ELSEWHERE = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_configure_node(node):
    node.workerinput["shelleval_log"] = [0, 0]  # no file of this machine
"""


def test_lines_of_workers_elsewhere_come_home(evaluation: Evaluation) -> None:
    (evaluation.folder / "conftest.py").write_text(ELSEWHERE)
    evaluation.run("--shelleval-model=oracle", *MODES["n2"]).assert_outcomes(passed=3)
    lines = log(evaluation).splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    found = "\n".join(lines)
    assert len(re.findall(r" gw\d core.attempt: .*: condition in local-", found)) == 3
