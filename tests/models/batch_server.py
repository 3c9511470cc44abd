"""OpenAI's Batch API on loopback, with replies from a function."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .chat_server import Answer, completion


class BatchServer:
    """Keeps files and batches; a batch is done after ``polls`` looks at it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.polls = 1
        self.final = "completed"
        self.answer: Callable[[dict[str, Any]], Answer | None] = lambda _: completion()
        """None: no answer to this request, as in a batch that expired."""
        self.noise: list[str] = []
        """Lines of the output file before the answers."""
        self.broken: dict[str, int] = {}
        """Status by the beginning of ``METHOD path``."""
        self.drop_after_create = False
        self.log: list[str] = []
        self.paths: list[str] = []
        """As they were asked for, with the query."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.log.append(f"{method} {path}")
        for start, status in self.broken.items():
            if f"{method} {path}".startswith(start):
                return status, {"error": {"message": "not here"}}
        if (method, path) == ("POST", "/v1/files"):
            # the file is the only part whose lines are JSON
            lines = [line.strip() for line in body.split(b"\n") if line.startswith(b'{"custom_id"')]
            ident = f"file-{len(self.files)}"
            self.files[ident] = b"\n".join(lines)
            return 200, {"id": ident, "object": "file"}
        if (method, path) == ("POST", "/v1/batches"):
            request = json.loads(body)
            ident = f"batch_{len(self.batches)}"
            self.batches[ident] = {
                "id": ident,
                "object": "batch",
                "status": "in_progress",
                "request_counts": {"total": 1, "completed": 0, "failed": 0},
                **request,
            }
            return 200, self.batches[ident]
        if method == "GET" and path == "/v1/batches":
            return 200, {"object": "list", "data": list(self.batches.values()), "has_more": False}
        if found := re.fullmatch(r"/v1/batches/(\w+)", path):
            return 200, self._look(found[1])
        if found := re.fullmatch(r"/v1/files/([\w-]+)/content", path):
            return 200, self.files[found[1]]
        if path == "/v1/chat/completions":
            return 200, json.loads(completion().body)
        return 404, {}

    def _look(self, ident: str) -> dict[str, Any]:
        batch = self.batches[ident]
        self.looks[ident] = self.looks.get(ident, 0) + 1
        if self.looks[ident] > self.polls and batch["status"] == "in_progress":
            batch["status"] = self.final
            if self.final == "failed":
                batch["errors"] = {"object": "list", "data": [{"message": "line 1: bad"}]}
                return batch
            good, bad = list(self.noise), []
            for line in self.files[batch["input_file_id"]].splitlines():
                request = json.loads(line)
                answer = self.answer(request["body"])
                if answer is None:
                    continue
                response = {"status_code": answer.status, "body": json.loads(answer.body)}
                text = json.dumps({"custom_id": request["custom_id"], "response": response})
                (good if answer.status == 200 else bad).append(text)
            self.files[f"{ident}-out"] = "\n".join(good).encode()
            self.files[f"{ident}-err"] = "\n".join(bad).encode()
            batch["output_file_id"] = f"{ident}-out"
            batch["error_file_id"] = f"{ident}-err" if bad else None
        return batch

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                path = self._path()
                status, said = server.handle("POST", path, body)
                if server.drop_after_create and path == "/v1/batches":
                    self.close_connection = True
                    return
                self._send(status, said)

            def do_GET(self) -> None:
                self._send(*server.handle("GET", self._path(), b""))

            def _path(self) -> str:
                server.paths.append(self.path)
                return self.path.partition("?")[0]

            def _send(self, status: int, said: Any) -> None:
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        return Handler
