"""Servers for the tests: ours in a thread, and one that misbehaves as it is told."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pytest_shelleval.core.sandbox import SandboxProvider


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[str]:
    """*app* under uvicorn in a thread, with more *options* of uvicorn's: its address."""
    import uvicorn

    # asyncio looks at the protocol before it switches off Nagle's algorithm: 40 ms a request
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2, **options)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


class ScriptedSos:
    """Speaks SoS's protocol over sandboxes of *provider*, without /healthz, and fails on demand.

    ``script[endpoint]`` holds what to do with the next requests, in order: a status with a text, or
    ``drop`` (hang up), ``lose`` (do it, hang up), ``hang`` (no answer for a while), ``garbage`` (no JSON), ``ok``.
    Session exec is always SoS's own trouble: a 500.
    """

    def __init__(self, provider: SandboxProvider | None) -> None:
        self.provider = provider
        self.script: dict[str, deque[Any]] = defaultdict(deque)
        self.sandboxes: dict[str, Any] = {}
        self.log: list[str] = []
        self.most = 0
        self.hang = 3.0
        self._http: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def live(self) -> list[str]:
        return [identity for identity, sandbox in self.sandboxes.items() if sandbox is not None]

    def count(self, endpoint: str) -> int:
        return self.log.count(endpoint)

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.serve(self)

            def do_GET(self) -> None:
                outer.reply(self, 404, "")

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._http.server_address[1]
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def restart(self) -> None:
        """As a server that was killed: all of its state is gone."""
        self.stop()
        for sandbox in self.sandboxes.values():
            if sandbox is not None:
                sandbox.close()
        self.sandboxes.clear()
        self.start()

    def reply(self, request: Any, status: int, text: str) -> None:
        data = text.encode()
        request.send_response(status)
        request.send_header("content-length", str(len(data)))
        request.send_header("connection", "close")  # so that stop() leaves no thread that serves
        request.end_headers()
        request.wfile.write(data)

    def serve(self, request: Any) -> None:
        raw = request.rfile.read(int(request.headers.get("content-length") or 0))
        parts = request.path.strip("/").split("/")
        endpoint = parts[2] if len(parts) > 2 else "create"
        self.log.append(endpoint)
        order = self.script[endpoint].popleft() if self.script[endpoint] else "ok"
        if order == "hang":
            time.sleep(self.hang)
            order = "drop"
        if order == "drop":
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
        elif order == "garbage":
            self.reply(request, 200, "<html>")
        elif order not in ("ok", "lose"):
            self.reply(request, *order)
        else:
            try:
                status, text = self.answer(endpoint, parts, raw)
            except Exception as error:
                status, text = 500, str(error)
            if order == "lose":
                request.close_connection = True
                request.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.reply(request, status, text)

    def answer(self, endpoint: str, parts: list[str], raw: bytes) -> tuple[int, str]:
        if endpoint == "create":
            identity = str(uuid.uuid4())
            self.sandboxes[identity] = None
            return 200, json.dumps({"id": identity})
        identity = parts[1]
        if identity not in self.sandboxes:
            return 404, "Sandbox not found"
        sandbox = self.sandboxes[identity]
        if endpoint == "start":
            if sandbox is not None:
                return 400, "Sandbox already started"
            assert self.provider is not None
            self.sandboxes[identity] = self.provider.acquire()
            self.most = max(self.most, len(self.live))
            return 200, ""
        if sandbox is None:
            if endpoint == "stop":
                del self.sandboxes[identity]
            return 400, "Sandbox not started"
        if endpoint == "stop":
            json.loads(raw)
            sandbox.close()
            del self.sandboxes[identity]
            return 200, ""
        body = json.loads(raw)
        if not body.get("standalone"):
            return 500, "Container read failed: Stream closed unexpectedly"
        done = sandbox.exec(body["command"], timeout=60)
        answer = {"output": done.output, "exit_code": done.exit_code, "exited": False}
        return 200, json.dumps(answer)
