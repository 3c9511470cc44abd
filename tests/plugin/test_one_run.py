"""Two runs on the same output folder: the second touches nothing."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.plugin.test_faults import count, start, wait_until
from tests.support import ROWS, Evaluation


@pytest.mark.every_mode
def test_the_second_run_is_refused_before_anything_is_touched(
    evaluation: Evaluation, mode: tuple[str, ...]
) -> None:
    evaluation.rows({**ROWS[0], "gold_command": "sleep 60"})
    secret = ("--shelleval-api-key=sk-secret", "--shelleval-base-url=http://me:word@localhost:1/")
    first = start(evaluation, "--shelleval-model=oracle", *secret, *mode)
    commands = evaluation.output / "commands.jsonl"
    wait_until(lambda: count(commands) == 1, first)
    before = commands.read_bytes()
    done = evaluation.run("--shelleval-model=noop", *mode)
    assert done.ret == 4
    message = done.stderr.str()
    assert f"is in use by another run: pid {first.pid} on {socket.gethostname()}" in message
    assert "  pytest -p pytest_shelleval.plugin" in message
    assert "--shelleval-api-key=***" in message
    assert "--shelleval-base-url=http://***@localhost:1/" in message
    assert "secret" not in message
    assert "Traceback" not in message
    assert commands.read_bytes() == before
    if "no:xdist" in mode:
        assert evaluation.run("--collect-only", "--shelleval-model=noop").ret == 0  # only looks
        other = ("--shelleval-model=noop", "--shelleval-output-dir=b", *mode)
        assert evaluation.run(*other).ret == 1
        shared = f"--shelleval-commands-file={commands}"
        done = evaluation.run(*other, shared)
        assert done.ret == 4
        assert f"{commands} is in use by another run: pid {first.pid}" in done.stderr.str()
        reads = evaluation.run(*other, shared, "--shelleval-phase=execution")
        assert "is in use" not in reads.stderr.str()
    first.send_signal(signal.SIGKILL)
    first.wait(30)
    assert evaluation.run("--shelleval-model=noop", *mode).ret == 1
    assert sorted(os.listdir(evaluation.output)) == [
        "commands.jsonl",
        "debug.earlier.log",
        "debug.log",
        "report.html",
        "results.jsonl",
        "summary.json",
    ]
