"""Start a SoS server for the run, and take the sandboxes from it."""

import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from pytest_shelleval.sandboxes.registry import provide


@pytest.fixture(scope="session")
def sos_url(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("sos") / "server.log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "pytest_shelleval.cli.main", "serve", "--port", str(port)],
            stdout=out,
            stderr=out,
        )
    try:
        wait_for(server, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(server, port, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"the SoS server did not start:\n{log.read_text()}", pytrace=False)


@pytest.fixture(scope="session")
def shelleval_sandboxes(sos_url, shelleval_settings):
    provider = provide(replace(shelleval_settings.sandbox_spec, kind="sos", sos_urls=[sos_url]))
    yield provider
    provider.close()
