"""A chat server on loopback that answers as it is told, and notes what it was asked."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMAND = '{"command":"ls -l"}'


@dataclass
class Answer:
    """One answer to one request."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    delay: float = 0.0
    """Seconds before the answer."""
    drip: float = 0.0
    """Seconds between the pieces of the body."""
    piece: int = 1
    """Bytes of a piece."""
    reset: bool = False
    """Drop the connection instead."""
    cut: bool = False
    """Drop it in the middle of the body."""


def completion(content: object = COMMAND, **changes: Any) -> Answer:
    message = {"role": "assistant", "content": content, **changes.pop("message", {})}
    data = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": message, "finish_reason": changes.pop("finish", "stop")}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }
    return Answer(body=json.dumps({**data, **changes}))


def error(status: int, message: str = "no", *, code: str | None = None, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps({"error": {"message": message, "code": code}})
    return Answer(status=status, body=body, headers=named)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with the usual 5 a crowd is met with resets

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up."""


class ChatServer:
    """Gives *script*'s answers in turn, then ``then``; or what ``answer`` says of a request."""

    def __init__(self) -> None:
        self.script: list[Answer] = []
        self.then: Answer = completion()
        self.answer: Callable[[dict[str, Any]], Answer] | None = None
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        self.gate: threading.Event | None = None
        """Where set, answers wait for it."""
        self._server = _Listener(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        if self.gate is not None:
            self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, request: dict[str, Any]) -> Answer:
        with self._lock:
            self.requests.append(request)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            if self.answer is not None:
                return self.answer(request)
            return self.script.pop(0) if self.script else self.then

    def _done(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("content-length", 0))
                request = json.loads(self.rfile.read(length))
                request["path"] = self.path
                chat.headers.append({k.lower(): v for k, v in self.headers.items()})
                answer = chat._next(request)
                try:
                    if chat.gate is not None:
                        chat.gate.wait(20)
                    time.sleep(answer.delay)
                finally:
                    chat._done()  # before the client can have its answer, and send the next request
                try:
                    self._send(answer)
                except OSError:
                    self.close_connection = True

            def _send(self, answer: Answer) -> None:
                if answer.reset:
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self._drop()
                    return
                body = answer.body.encode()
                self.send_response(answer.status)
                self.send_header("content-type", answer.kind)
                self.send_header("content-length", str(len(body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if answer.cut:
                    self.wfile.write(body[: len(body) // 2])
                    self._drop()
                elif answer.drip:
                    for start in range(0, len(body), answer.piece):
                        self.wfile.write(body[start : start + answer.piece])
                        time.sleep(answer.drip)
                else:
                    self.wfile.write(body)

            def _drop(self) -> None:
                self.close_connection = True
                self.connection.close()

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def closed_port() -> int:
    """A port of loopback on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
