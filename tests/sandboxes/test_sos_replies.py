"""Whatever a server replies: a result, or an error of the sandbox that says which server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.sandboxes.sos.api import Api
from pytest_shelleval.sandboxes.sos.sandbox import SosSandbox

SOUND = {
    "output": "hi\n",
    "exit_code": 0,
    "exited": False,
    "timed_out": False,
    "truncated": False,
    "limit": None,
    "duration": 0.1,
    "directory": "/home/shellm",
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = st.dictionaries(st.sampled_from([*SOUND, "id", "server", "max_sandboxes"]), VALUES)
BODIES = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    FIELDS.map(lambda fields: json.dumps(fields).encode()),
    FIELDS.map(lambda fields: json.dumps({**SOUND, **fields}).encode()),
)
DEEP = b"[" * 100_000


class Server(ThreadingHTTPServer):
    """Replies to everything with what is set."""

    daemon_threads = True
    status, body = 200, b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(server.status)
        self.send_header("content-length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    do_GET = do_POST  # noqa: N815 - as the base class has it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[Api]:
    found = Api([f"http://127.0.0.1:{server.server_port}"], None)
    yield found
    found.close()


@settings(max_examples=40, derandomize=True, database=None)
@given(status=st.sampled_from([200, 200, 200, 400, 404, 500]), body=BODIES)
@example(status=200, body=DEEP)
@example(status=400, body=b"\xff already exited")
@example(status=200, body=json.dumps(SOUND | {"duration": 10**400}).encode())
@example(status=200, body=json.dumps(SOUND | {"limit": ["memory"]}).encode())
@example(status=200, body=json.dumps(SOUND | {"output": "\u00b2"}).encode())
@example(status=200, body=json.dumps(SOUND | {"output": "1" * 5000}).encode())
def test_a_reply_of_anything(server: Server, api: Api, status: int, body: bytes) -> None:
    server.status, server.body = status, body
    url = f"http://127.0.0.1:{server.server_port}"
    for ours in (True, False):
        sandbox = SosSandbox(
            api,
            url,
            "s1",
            image="i",
            ours=ours,
            output_limit=1000,
            stop=lambda _: None,
            failed=lambda _: None,
        )
        for run in (sandbox.exec, sandbox.exec_session):
            try:
                done = run("ls", timeout=5)
            except SandboxError as error:
                assert 0 < len(str(error)) < 2000  # noqa: PT017 - either way is right
            else:
                assert isinstance(done.output, str)
                assert done.exit_code is None or 0 <= done.exit_code <= 255
                assert done.limit is None or isinstance(done.limit, str)
    health = api.health(url)
    assert health.max_sandboxes is None or isinstance(health.max_sandboxes, int)
    said = url
    try:
        assert api.create(url, "i")
    except (SandboxError, SandboxUnavailable) as error:
        said = str(error)
    assert url in said
