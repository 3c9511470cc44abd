"""The same dataset on other kinds of sandbox, chosen by options."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Evaluation


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """The port of `shelleval serve` over local sandboxes."""
    pytest.importorskip("uvicorn")
    port = free_port()
    with (tmp_path / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest_shelleval.cli.main", "serve", "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert process.poll() is None, (tmp_path / "serve.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield port
    process.terminate()
    assert process.wait(30) in (0, -15)


def test_a_sos_server(server: int, evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    done = evaluation.run("--shelleval-model=oracle", f"--shelleval-sos-port={server}", *mode)
    done.assert_outcomes(passed=3)
    assert {line["sandbox"]["kind"] for line in evaluation.lines("results.jsonl")} == {"sos"}
    evaluation.run(
        "--shelleval-model=noop", f"--shelleval-sos-url=http://127.0.0.1:{server}", *mode
    ).assert_outcomes(failed=3)


def test_a_sos_server_that_is_not_there(evaluation: Evaluation, mode: tuple[str, ...]) -> None:
    done = evaluation.run("--shelleval-model=oracle", f"--shelleval-sos-port={free_port()}", *mode)
    assert done.ret == 4
    assert "no SoS server gives a sandbox" in done.stderr.str()
    assert not evaluation.lines("commands.jsonl")


def test_no_docker_engine(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{evaluation.folder}/no.sock")
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-sandbox=docker", *mode)
    assert done.ret == 4
    assert "No Docker engine answers" in done.stderr.str()
    assert not evaluation.lines("commands.jsonl")


KIND = """
from pytest_shelleval.sandboxes.base import SandboxKind
from pytest_shelleval.sandboxes.local.kind import LocalKind


class Renamed(LocalKind):
    def provide(self, spec):
        provider = super().provide(spec)
        make = provider.acquire

        def acquire():
            sandbox = make()
            info = {**sandbox.info, "kind": spec.kind}
            type(sandbox).info = property(lambda self: info)
            return sandbox

        provider.acquire = acquire
        return provider


KIND = Renamed()
"""


def test_another_packages_kind(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...]
) -> None:
    (evaluation.folder / "more_sandboxes.py").write_text(KIND)
    about = evaluation.folder / "more_sandboxes-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: more-sandboxes\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[pytest_shelleval.sandboxes]\nrenamed = more_sandboxes:KIND\n"
    )
    paths = [str(evaluation.folder), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-sandbox=renamed", *mode)
    done.assert_outcomes(passed=3)
    assert {line["sandbox"]["kind"] for line in evaluation.lines("results.jsonl")} == {"renamed"}
    done = evaluation.run("--shelleval-model=oracle", "--shelleval-sandbox=renmaed", *mode)
    assert done.ret == 4
    assert (
        "one of auto, local, docker, sos, renamed is expected, not 'renmaed'" in done.stderr.str()
    )
