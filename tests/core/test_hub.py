"""A dataset by its name on the Hugging Face hub, from a hub on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

import pytest

NAME = "acme/shell-tasks"
COMMIT = "a" * 40
SCRIPT = """
import sys
from pytest_shelleval.core.datasets import read_rows
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.tasks import build_tasks
try:
    (tasks,) = build_tasks([read_rows(sys.argv[1], split=sys.argv[2])])
except UserError as error:
    sys.exit(f"UserError: {error}")
print([(task.task_id, task.setup_commands, task.source) for task in tasks])
"""


def row(task_id: str) -> bytes:
    fields = {"task_id": task_id, "task": "t", "setup_commands": ["true"]}
    return json.dumps({**fields, "success_condition": "true", "difficulty_level": "easy"}).encode()


FILES = {
    "README.md": b"---\nlicense: mit\n---\n",
    "data/test.jsonl": row("h1") + b"\n" + row("h2") + b"\n",
    "data/train.jsonl": row("h0") + b"\n",
}


def entry(path: str) -> dict[str, object]:
    if path not in FILES:
        return {"type": "directory", "path": path, "size": 0, "oid": "b" * 40}
    content = FILES[path]
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


class Hub(BaseHTTPRequestHandler):
    """The few endpoints that load_dataset asks for a repository of data files."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = unquote(self.path.partition("?")[0])
        found: object = None
        headers = {"X-Repo-Commit": COMMIT}
        if path.startswith(f"/datasets/{NAME}/resolve/"):
            file = path.split("/resolve/")[1].partition("/")[2]
            found = FILES.get(file)
            if found is None:
                headers["X-Error-Code"] = "EntryNotFound"
            else:
                headers["ETag"] = f'"{hashlib.sha1(FILES[file]).hexdigest()}"'
        elif path.startswith(f"/api/datasets/{NAME}/tree/"):
            folder = path.split("/tree/")[1].partition("/")[2]
            below = [file for file in FILES if file.startswith(folder)]
            found = [entry(file) for file in below] + ([] if folder else [entry("data")])
        elif path.startswith(f"/api/datasets/{NAME}/paths-info/"):
            try:
                paths = json.loads(body)["paths"]
            except ValueError:
                paths = parse_qs(body.decode())["paths"]
            known = [p for p in paths if any(file.startswith(p) for file in FILES)]
            found = [entry(path) for path in known]
        elif path.startswith(f"/api/datasets/{NAME}"):
            siblings = [{"rfilename": file} for file in FILES]
            found = {"id": NAME, "sha": COMMIT, "private": False, "siblings": siblings}
        elif path.startswith("/api/datasets/"):
            headers["X-Error-Code"] = "RepoNotFound"
        content = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(404 if found is None else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = _answer  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def load(hub: str, folder: Path, name: str, split: str) -> subprocess.CompletedProcess[str]:
    # the libraries read their environment when they are imported: a process of its own
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("HF_")
    }
    environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, name, split],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_split_is_loaded_from_the_hub(hub: str, tmp_path: Path) -> None:
    done = load(hub, tmp_path, NAME, "test")
    assert done.stdout.strip() == str(
        [
            ("h1", ("true",), f"{NAME}[test] row 1"),
            ("h2", ("true",), f"{NAME}[test] row 2"),
        ]
    ), done.stderr


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [(NAME, "dev", 'Unknown split "dev"'), ("acme/nothing", "test", "acme/nothing")],
)
def test_what_the_hub_does_not_have_is_named(
    hub: str, name: str, split: str, message: str, tmp_path: Path
) -> None:
    done = load(hub, tmp_path, name, split)
    assert done.returncode == 1
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith(
        f"UserError: dataset {name}: no such file here, and the Hugging Face hub"
    )
    assert message in error
