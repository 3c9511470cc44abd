"""The SoS client against servers of ours and against one that misbehaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from container_contract import *  # noqa: F403
from container_contract import OUTPUT, fresh, typed
from servers import ScriptedSos, serving

pytest.importorskip("starlette", reason="pip install 'pytest-shelleval[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'pytest-shelleval[serve]'")

from pytest_shelleval.core.commands import Command
from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.execution import Execution, ExecutionPolicy
from pytest_shelleval.core.reasons import sentence_of
from pytest_shelleval.core.sandbox import Sandbox
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.probe import probe as probe_local
from pytest_shelleval.sandboxes.local.provider import LocalProvider
from pytest_shelleval.sandboxes.server.app import create_app
from pytest_shelleval.sandboxes.sos.provider import SosProvider, sweep

IMAGE = "any"


@pytest.fixture(scope="module")
def local() -> Iterator[LocalProvider]:
    report = probe_local()
    if not report.ok:
        pytest.skip(report.message)
    provider = LocalProvider(Limits(output=1 << 20))
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def ours(local: LocalProvider) -> Iterator[str]:
    def factory(image: str) -> LocalProvider:
        return LocalProvider(Limits(output=OUTPUT))

    with serving(create_app(factory, max_sandboxes=3)) as url:
        yield url


@pytest.fixture
def scripted(local: LocalProvider) -> Iterator[ScriptedSos]:
    server = ScriptedSos(local)
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["ours", "any"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    if request.param == "ours":
        url = request.getfixturevalue("ours")
    else:
        url = request.getfixturevalue("scripted").url
    provider = client(url, limits=Limits(output=OUTPUT))
    yield provider.acquire()
    provider.close()


def client(*urls: str, **options: Any) -> SosProvider:
    options.setdefault("patience", 5)
    options.setdefault("pool_size", 0)
    return SosProvider(urls, image=IMAGE, **options)


def test_says_how_commands_are_run(ours: str, scripted: ScriptedSos) -> None:
    for url, mode in ((ours, "session"), (scripted.url, "standalone")):
        provider = client(url)
        sandbox = provider.acquire()
        assert sandbox.info["exec_mode"] == mode
        assert sandbox.info["kind"] == provider.info["kind"] == "sos"
        provider.close()
        provider.close()
    assert scripted.sandboxes == {}


# --- a server that misbehaves


@pytest.mark.parametrize(
    "order",
    [
        (500, "Container read failed: Stream closed unexpectedly"),
        (504, "Timeout waiting for marker"),
        (404, "Sandbox not found"),
        (400, "Sandbox not started"),
        (503, ""),
        "drop",
        "lose",
        "garbage",
        (200, "{}"),
        (200, '{"output": "lies", "exit_code": 0, "exited": false}'),
    ],
)
def test_trouble_of_an_exec_is_no_verdict(scripted: ScriptedSos, order: Any) -> None:
    provider = client(scripted.url)
    sandbox = provider.acquire()
    scripted.script["exec"].append(order)
    with pytest.raises(SandboxError):
        typed(sandbox, "true")
    scripted.script["exec"].clear()
    with pytest.raises(SandboxError):  # it is not trusted again
        fresh(sandbox, "true")
    sandbox.close()
    assert fresh(provider.acquire(), "echo next").output == "next\n"
    provider.close()
    assert scripted.sandboxes == {}


@pytest.mark.parametrize("text", ["rm -f /bin/bash", "rm -rf /usr/bin; exit 127"])
def test_a_command_that_breaks_its_sandbox_has_failed(scripted: ScriptedSos, text: str) -> None:
    provider = client(scripted.url)
    row = {"task_id": "t", "task": "x", "success_condition": "test -e never"}
    task = Task(setup_commands=(), **row)
    command = Command(setup_commands=[], generated_command=text, timestamp="", **row)
    execution = Execution(task, command, provider, ExecutionPolicy())
    result = execution.run()
    assert (result.status, result.error_kind, result.attempt) == ("failed", None, 2)
    assert sentence_of(result).startswith("the command broke its sandbox: ")
    execution.release()
    provider.close()
    assert scripted.sandboxes == {}


@pytest.mark.parametrize("order", [(500, "x"), (504, "x"), (503, ""), "drop", "lose"])
@pytest.mark.parametrize("endpoint", ["create", "start"])
def test_a_start_that_fails_is_stopped_and_tried_again(
    scripted: ScriptedSos, endpoint: str, order: Any
) -> None:
    provider = client(scripted.url)
    scripted.script[endpoint].append(order)
    assert fresh(provider.acquire(), "echo here").output == "here\n"
    provider.close()
    assert not scripted.live
    assert scripted.count("stop") >= (2 if endpoint == "start" else 1)


def test_a_start_that_hangs_ends_and_is_stopped(scripted: ScriptedSos) -> None:
    provider = client(scripted.url, start_timeout=0.5)
    scripted.script["start"].append("hang")
    assert fresh(provider.acquire(), "echo here").output == "here\n"
    provider.close()
    assert not scripted.live


def test_stop_is_repeated_until_it_works(scripted: ScriptedSos) -> None:
    provider = client(scripted.url)
    sandbox = provider.acquire()
    scripted.script["stop"].extend(["drop", (500, "busy")])
    sandbox.close()
    provider.close()
    assert scripted.sandboxes == {}
    assert scripted.count("stop") == 3


def test_stopped_already_counts_as_stopped(scripted: ScriptedSos) -> None:
    provider = client(scripted.url)
    sandbox = provider.acquire()
    scripted.sandboxes.pop(sandbox.id).close()
    sandbox.close()
    provider.close()
    assert scripted.count("stop") == 1


@pytest.mark.parametrize(
    ("endpoint", "order", "named"),
    [
        ("start", (400, "Failed to pull image: no such image"), "--shelleval-sandbox-image"),
        ("create", (401, "who?"), "SHELLEVAL_SOS_TOKEN"),
        ("create", (421, "start it with --allow-host=NAME"), "refuses: start it with --allow-host"),
        ("create", (404, ""), "no SoS server"),
        ("create", (200, "{}"), "no SoS server"),
    ],
)
def test_what_no_retry_can_mend(
    scripted: ScriptedSos, endpoint: str, order: Any, named: str
) -> None:
    provider = client(scripted.url)
    scripted.script[endpoint].append(order)
    with pytest.raises(SandboxUnavailable, match=named):
        provider.acquire()
    provider.close()
    assert not scripted.live


def test_a_server_that_restarts(scripted: ScriptedSos) -> None:
    provider = client(scripted.url, pool_size=1, permits=4)
    sandbox = provider.acquire()
    fresh(sandbox, "true")
    scripted.restart()
    with pytest.raises(SandboxError):
        typed(sandbox, "true")
    sandbox.close()
    for _ in range(3):
        try:
            assert fresh(provider.acquire(), "echo here").output == "here\n"
            break
        except SandboxError:
            continue
    else:
        pytest.fail("it does not recover")
    scripted.stop()
    threading.Timer(1.0, scripted.start).start()
    provider.close()


def test_no_server(scripted: ScriptedSos) -> None:
    provider = client(scripted.url, patience=1)
    scripted.stop()
    with pytest.raises(SandboxError, match="No SoS server answers"):
        provider.acquire()
    threading.Timer(0.7, scripted.start).start()
    provider = client(scripted.url, patience=20)
    assert fresh(provider.acquire(), "echo here").output == "here\n"
    provider.close()


@pytest.mark.parametrize("url", ["localhost:3000", "ftp://x", "http://[", "nonsense"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises((SandboxUnavailable, SandboxError)):
        client(url, patience=0.1).acquire()


# --- permits, pools, fleets


def test_never_more_than_the_permits(scripted: ScriptedSos) -> None:
    provider = client(scripted.url, permits=3, pool_size=4)

    def one(number: int) -> str:
        sandbox = provider.acquire()
        try:
            return fresh(sandbox, f"echo {number}").output.strip()
        finally:
            sandbox.close()

    with ThreadPoolExecutor(8) as threads:
        assert sorted(map(int, threads.map(one, range(24)))) == list(range(24))
    provider.close()
    assert scripted.most <= 3
    assert scripted.sandboxes == {}


def test_workers_share_permits_through_files(scripted: ScriptedSos, tmp_path: Path) -> None:
    workers = [
        client(scripted.url, permits=2, workers=4, pool_size=2, state_directory=tmp_path)
        for _ in range(4)
    ]

    def one(provider: SosProvider) -> None:
        for _ in range(4):
            sandbox = provider.acquire()
            assert fresh(sandbox, "echo x").output == "x\n"
            sandbox.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, workers))
    for provider in workers:
        provider.close()
    assert scripted.most <= 2
    assert not list(tmp_path.glob("*.journal"))


def test_a_fleet_leaves_out_the_dead_and_tries_them_again(local: LocalProvider) -> None:
    one, two = ScriptedSos(local), ScriptedSos(local)
    one.start()
    two.start()
    provider = client(one.url, two.url, permits=8)
    try:
        boxes = [provider.acquire() for _ in range(4)]
        assert sorted(box.url for box in boxes) == sorted([one.url, two.url] * 2)
        two.stop()
        boxes = [provider.acquire() for _ in range(3)]
        assert {box.url for box in boxes} == {one.url}
        two.start()
        deadline = time.monotonic() + 20
        while provider.acquire().url != two.url:
            assert time.monotonic() < deadline
            for box in boxes:
                box.close()
            time.sleep(0.3)
    finally:
        provider.close()
        one.stop()
        two.stop()


KILLED = """
import sys, time
from pathlib import Path
from pytest_shelleval.sandboxes.sos.provider import SosProvider
provider = SosProvider([sys.argv[1]], image="any", state_directory=Path(sys.argv[2]))
print(provider.acquire().id, flush=True)
time.sleep(60)
"""


def test_what_a_killed_worker_left_is_swept(scripted: ScriptedSos, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED, scripted.url, tmp_path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert worker.stdout
    assert worker.stdout.readline()
    assert sweep(tmp_path) == 0  # it lives
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    assert scripted.live
    assert sweep(tmp_path) >= 1
    assert not scripted.live
    assert sweep(tmp_path) == 0


def test_a_token_is_sent(local: LocalProvider) -> None:
    with serving(create_app(lambda image: LocalProvider(), token="secret")) as url:
        with pytest.raises(SandboxUnavailable, match="SHELLEVAL_SOS_TOKEN"):
            client(url, token="wrong").acquire()
        provider = client(url, token="secret")
        assert fresh(provider.acquire(), "echo in").output == "in\n"
        provider.close()
