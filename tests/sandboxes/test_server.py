"""Our server, endpoint by endpoint and status by status as SoS's protocol has them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from servers import serving

pytest.importorskip("starlette", reason="pip install 'pytest-shelleval[serve]'")
pytest.importorskip("uvicorn", reason="pip install 'pytest-shelleval[serve]'")

from pytest_shelleval.cli.main import main
from pytest_shelleval.cli.serve import add_serve_parser, serve
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.probe import probe
from pytest_shelleval.sandboxes.local.provider import LocalProvider
from pytest_shelleval.sandboxes.server.app import create_app
from pytest_shelleval.sandboxes.server.arrival import within

LIMITS = Limits(memory=200 << 20, processes=32)
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module", autouse=True)
def _local_sandboxes() -> None:
    report = probe()
    if not report.ok:
        pytest.skip(report.message)


class Client:
    def __init__(self, url: str, **options: Any) -> None:
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False, **options)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return self.http.post(path, json=body) if body is not None else self.http.post(path)

    def create(self, *setup: str) -> str:
        reply = self.post("/sandboxes", {"image": "any", "setup_commands": list(setup)})
        assert reply.status_code == 200
        return str(reply.json()["id"])

    def started(self, *setup: str) -> str:
        identity = self.create(*setup)
        reply = self.post(f"/sandboxes/{identity}/start")
        assert (reply.status_code, reply.content) == (200, b"")
        return identity

    def exec(self, identity: str, command: str, **fields: Any) -> httpx.Response:
        return self.post(f"/sandboxes/{identity}/exec", {"command": command, **fields})

    def run(self, identity: str, command: str, **fields: Any) -> tuple[str, int, bool]:
        reply = self.exec(identity, command, **fields)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        return body["output"], body["exit_code"], body["exited"]

    def stop(self, identity: str, **fields: Any) -> int:
        return self.post(f"/sandboxes/{identity}/stop", fields).status_code


def app(**options: Any) -> Any:
    return create_app(lambda image: LocalProvider(LIMITS), **options)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(app()) as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    client = Client(url)
    yield client
    for each in client.http.get("/sandboxes").json():
        client.stop(each["id"], remove=True)
    client.http.close()


# --- the protocol


def test_a_whole_life(client: Client) -> None:
    identity = client.create("echo a > f", "cd /tmp")
    listed = {"id": identity, "image": "any", "setup_commands": "echo a > f && cd /tmp"}
    listed |= {"status": "created", "session_command_count": 0, "last_standalone_exit_code": None}
    assert client.http.get("/sandboxes").json() == [listed]
    assert client.post(f"/sandboxes/{identity}/start").status_code == 200
    assert client.run(identity, "cat f; pwd; cd /srv; x=1") == ("a\n/home/shellm\n", 0, False)
    assert client.run(identity, "pwd; echo $x") == ("/srv\n1\n", 0, False)
    assert client.run(identity, "pwd; exit 7", standalone=True) == ("/home/shellm\n", 7, False)
    assert client.run(identity, "exit 3") == ("", 3, True)
    reply = client.exec(identity, "true")
    assert (reply.status_code, reply.text) == (400, "Sandbox session already exited")
    assert client.run(identity, "echo on", standalone=True) == ("on\n", 0, False)
    state = client.http.get("/sandboxes").json()[0]
    assert (state["status"], state["session_command_count"]) == ("exited", 3)
    assert state["last_standalone_exit_code"] == 0
    told = client.http.get(f"/sandboxes/{identity}/trajectory").json()
    assert (told["sandbox_id"], told["command_count"]) == (identity, 3)
    assert told["trajectory"][1]["index"] == 1
    assert told["trajectory"][1]["result"] == {"output": "/srv\n1\n", "exit_code": 0}
    text = client.http.get(f"/sandboxes/{identity}/trajectory/formatted").text
    assert "$ pwd; echo $x\n/srv\n1\n\n$ exit 3\n" in text
    assert client.stop(identity) == 200
    assert client.http.get("/sandboxes").json()[0]["status"] == "stopped"
    assert client.http.get(f"/sandboxes/{identity}/trajectory").json()["command_count"] == 3
    assert client.exec(identity, "true", standalone=True).status_code == 400
    assert client.post(f"/sandboxes/{identity}/start").status_code == 400
    assert client.stop(identity, remove=True) == 400
    assert client.stop(identity, remove=True) == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/sandboxes", b'{"image": "x", "setup_commands": [', 400),
        ("/sandboxes", b'{"image": "x"}', 422),
        ("/sandboxes", b'{"image": 1, "setup_commands": []}', 422),
        ("/sandboxes", b'{"image": "x", "setup_commands": [1]}', 422),
        ("/sandboxes", b'{"image": "x", "setup_commands": "x"}', 422),
        ("/sandboxes", b"[]", 422),
        ("/sandboxes", b'{"image": "%s"}' % (b"x" * (2 << 20)), 413),
        (f"/sandboxes/{NOBODY}/exec", b"{}", 422),
        (f"/sandboxes/{NOBODY}/exec", b'{"command": "x", "standalone": 1}', 422),
        (f"/sandboxes/{NOBODY}/exec", b'{"command": "x", "timeout": "1"}', 422),
        (f"/sandboxes/{NOBODY}/exec", b'{"command": "x", "timeout": 0}', 422),
        (f"/sandboxes/{NOBODY}/exec", b'{"command": "x", "standalone": null}', 404),
        (f"/sandboxes/{NOBODY}/stop", b"", 400),
        (f"/sandboxes/{NOBODY}/stop", b'{"remove": "yes"}', 422),
        (f"/sandboxes/{NOBODY}/stop", b'{"remove": null}', 404),
    ],
)
def test_bodies(client: Client, path: str, body: bytes, status: int) -> None:
    reply = client.http.post(path, content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status
    assert reply.headers["content-type"].startswith("text/plain")
    assert client.http.post(path, content=body).status_code == 415


def test_methods_and_paths(client: Client) -> None:
    for method, path in [
        ("PUT", "/sandboxes"),
        ("DELETE", "/sandboxes"),
        ("GET", "/sandboxes/x/exec"),
    ]:
        assert client.http.request(method, path).status_code == 405
    assert client.post(f"/sandboxes/{NOBODY}/start").status_code == 404
    for path in (f"/sandboxes/{NOBODY}", "/", "/nope", f"/sandboxes/{NOBODY}/trajectory"):
        assert client.http.get(path).status_code == 404
    assert client.http.get(f"/sandboxes/{NOBODY}/trajectory/formatted").status_code == 404


def test_states(client: Client) -> None:
    identity = client.create()
    assert client.exec(identity, "true").status_code == 400
    assert client.exec(identity, "true", standalone=True).text == "Sandbox not started"
    assert client.stop(identity) == 400
    assert client.post(f"/sandboxes/{identity}/start").status_code == 200
    assert client.post(f"/sandboxes/{identity}/start").status_code == 400
    assert client.stop(identity, remove=True) == 200


@pytest.mark.parametrize("setup", [["false", "true"], ["echo why; exit 4"], ["x &", "false"]])
def test_a_setup_that_fails(client: Client, setup: list[str]) -> None:
    identity = client.create(*setup)
    reply = client.post(f"/sandboxes/{identity}/start")
    assert reply.status_code == 400
    assert reply.text.startswith("Setup commands failed: ")
    assert ("why" in reply.text) == ("why" in setup[0])
    assert client.http.get("/healthz").json()["free"] == 10
    assert client.stop(identity, remove=True) == 400


@pytest.mark.parametrize("setup", [["sleep 9 &", "true"], ["true # c", "touch x"], ["", "touch x"]])
def test_setups_that_break_a_join(client: Client, setup: list[str]) -> None:
    identity = client.started(*setup)
    assert client.run(identity, "ls")[0] == ("x\n" if "touch x" in setup else "")


def test_right_where_sos_is_wrong(client: Client) -> None:
    identity = client.started()
    for command, output, code in [
        ("printf 'a\\tb\\r\\n'", "a\tb\r\n", 0),
        ("echo a\nsleep 0.3\necho b", "a\nb\n", 0),
        ('echo "hi!there"', "hi!there\n", 0),
        ("yes | head -1", "y\n", 0),
        ("echo '#PS1-TR0N-F1GHTS-4-TH3-U23R2#:0:'; false", "#PS1-TR0N-F1GHTS-4-TH3-U23R2#:0:\n", 1),
        ("(exit 3)", "", 3),
        ("cat; sleep 2.5; echo late", "late\n", 0),
        ("cat <<E\nopen", None, 0),
        ("echo 'open", None, 2),
    ]:
        found = client.run(identity, command)
        assert found[1:] == (code, False), command
        assert output in (None, found[0])
    for ending, code in (("set -e; false", 1), ("exec false", 1), ("kill -9 $$", 137)):
        other = client.started()
        assert client.run(other, ending) == ("", code, True)
        client.stop(other)


def test_a_command_past_its_time() -> None:
    with serving(app(timeout=2.0)) as url:
        client = Client(url)
        identity = client.started()
        reply = client.exec(identity, "sleep 60", timeout=0.3)
        assert reply.status_code == 200
        assert (reply.json()["timed_out"], reply.json()["exit_code"]) == (True, None)
        assert client.exec(identity, "true").status_code == 400
        reply = client.exec(client.started(), "sleep 60")
        assert (reply.status_code, reply.text[:7]) == (504, "Timeout")
        identity = client.create("sleep 60")
        assert client.post(f"/sandboxes/{identity}/start").status_code == 504


# --- permits, forgetting, ending


def test_a_full_server_makes_start_wait() -> None:
    with serving(app(max_sandboxes=1)) as url:
        client = Client(url)
        first, second = client.started(), client.create()
        assert client.http.get("/healthz").json()["free"] == 0
        with pytest.raises(httpx.ReadTimeout):
            client.http.post(f"/sandboxes/{second}/start", timeout=0.5)
        # neither unknown ids nor double starts wait
        assert client.post(f"/sandboxes/{NOBODY}/start").status_code == 404
        assert client.post(f"/sandboxes/{first}/start").status_code == 400
        third = client.create()
        threading.Timer(0.5, client.stop, [first]).start()
        assert client.post(f"/sandboxes/{third}/start").status_code == 200
        assert client.stop(third) == 200
        assert client.http.get("/healthz").json()["free"] == 1


def test_the_forgotten_are_reaped() -> None:
    with serving(app(timeout=1.2)) as url:
        client = Client(url)
        used, left, made = client.started(), client.started(), client.create()
        for _ in range(8):
            assert client.run(used, "sleep 0.2")[1] == 0
        for identity in (left, made):
            assert client.stop(identity) == 404
        assert client.run(used, "echo here")[0] == "here\n"
        assert client.http.get("/healthz").json()["free"] == 9


def test_many_at_once() -> None:
    with serving(app(max_sandboxes=64)) as url:
        client = Client(url, limits=httpx.Limits(max_connections=None))

        def one(number: int) -> str:
            identity = client.started(f"echo {number} > n")
            output, code, _ = client.run(identity, "sleep 0.5; cat n", timeout=60)
            assert code == 0
            return output.strip() + ("" if client.stop(identity, remove=True) == 200 else "?")

        with ThreadPoolExecutor(64) as threads:
            assert list(threads.map(one, range(64))) == [str(number) for number in range(64)]
        assert client.http.get("/healthz").json()["free"] == 64


def test_ending_leaves_nothing() -> None:
    providers: list[LocalProvider] = []

    def factory(image: str) -> LocalProvider:
        providers.append(LocalProvider(LIMITS))
        return providers[-1]

    with serving(create_app(factory)) as url:
        client = Client(url)
        identity = client.started("sleep 1234567 &")
        threading.Thread(target=lambda: client.exec(identity, "sleep 30")).start()
        time.sleep(0.5)
    assert len(providers) == 1
    found = subprocess.run(["pgrep", "-f", "sleep 1234567"], capture_output=True, check=False)
    assert found.stdout == b""


def test_more_image_names_than_are_kept() -> None:
    made: list[LocalProvider] = []
    closed: list[LocalProvider] = []

    class Provider(LocalProvider):
        def close(self) -> None:
            closed.append(self)
            super().close()

    def factory(image: str) -> LocalProvider:
        made.append(Provider(LIMITS, pool_size=0))
        return made[-1]

    def start(image: str) -> str:
        reply = client.post("/sandboxes", {"image": image, "setup_commands": []})
        identity = str(reply.json()["id"])
        reply = client.post(f"/sandboxes/{identity}/start")
        assert (reply.status_code, reply.text) == (200, "")
        return identity

    with serving(create_app(factory)) as url:
        client = Client(url)
        used = start("used")
        for number in range(20):
            assert client.stop(start(f"image-{number}"), remove=True) == 200
        assert made[0] not in closed
        assert client.run(used, "echo here")[0] == "here\n"
        assert len(closed) == 3  # 16 are kept beside the two that were in use
        assert client.stop(start("image-19"), remove=True) == 200
        assert len(made) == 21
    assert sorted(map(id, closed)) == sorted(map(id, made))


def test_one_provider_for_all_image_names() -> None:
    local = LocalProvider(LIMITS, pool_size=0)
    with serving(create_app(lambda image: local, max_sandboxes=20)) as url:
        client = Client(url)
        for number in range(18):  # all in use at the same time
            reply = client.post("/sandboxes", {"image": f"image-{number}", "setup_commands": []})
            assert client.post(f"/sandboxes/{reply.json()['id']}/start").status_code == 200


def test_sandboxes_that_are_never_started_are_bounded() -> None:
    with serving(app()) as url:
        client = Client(url)
        body = {"image": "any", "setup_commands": []}
        first, reply = client.started(), client.post("/sandboxes", body)
        second = str(reply.json()["id"])
        for _ in range(1500):
            reply = client.post("/sandboxes", body)
            if reply.status_code != 200:
                break
        assert (reply.status_code, "not started" in reply.text) == (503, True)
        assert client.run(first, "echo on")[0] == "on\n"
        assert client.post(f"/sandboxes/{second}/start").status_code == 200
        assert client.post("/sandboxes", body).status_code == 200  # there is room for one again


# --- what harms others


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\xed\xa0\x80"'])
def test_a_lone_surrogate_is_refused(client: Client, text: bytes) -> None:
    identity = client.started()
    json = {"content-type": "application/json"}
    for path, body in [
        ("/sandboxes", b'{"image": %s, "setup_commands": []}'),
        ("/sandboxes", b'{"image": "any", "setup_commands": [%s]}'),
        (f"/sandboxes/{identity}/exec", b'{"command": %s}'),
        (f"/sandboxes/{identity}/exec", b'{"command": "true", "standalone": true, "cwd": %s}'),
    ]:
        reply = client.http.post(path, content=body % text, headers=json)
        assert (reply.status_code, "surrogates" in reply.text) == (400, True)
    assert [each["id"] for each in client.http.get("/sandboxes").json()] == [identity]
    assert client.http.get(f"/sandboxes/{identity}/trajectory").json()["trajectory"] == []


REQUEST = b"POST /sandboxes HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
HALVES = {
    "nothing": b"",
    "half a line": REQUEST[:10],
    "half of the head": REQUEST,
    "half of the body": REQUEST + b"content-length: 100\r\n\r\n{",
    "a second request": b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" + REQUEST,
}


@pytest.mark.parametrize("name", HALVES)
def test_what_does_not_arrive_whole_is_closed(name: str) -> None:
    first, found, second = HALVES[name].partition(b"POST")
    with serving(app(), http=within(5 if first else 0.5)) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as connection:
            if first:
                connection.sendall(first)
                answer = b""
                while not answer.endswith(b"}"):
                    answer += connection.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200")
            connection.sendall(found + second)
            assert connection.recv(4096) == b""  # it has been closed


def test_what_arrives_whole_may_take_longer() -> None:
    with serving(app(), http=within(5)) as url:
        client = Client(url, limits=httpx.Limits(max_connections=1))
        assert client.run(client.started(), "sleep 5.5; echo late")[0] == "late\n"


# --- who may use it


def status_for(url: str, host: str | None, version: str = "1.1") -> int:
    line = "" if host is None else f"Host: {host}\r\n"
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=60) as connection:
        request = f"GET /sandboxes HTTP/{version}\r\n{line}Connection: close\r\n\r\n"
        connection.sendall(request.encode())
        return int(connection.makefile("rb").readline().split()[1])


LOOPBACK = ["localhost", "LOCALHOST:3000", "127.0.0.1:3000", "127.8.8.8", "[::1]", "[::1]:80"]
FOREIGN = ["evil.example", "localhost.evil.example:3000", "192.0.2.1", "[2001:db8::1]", "", "[::1"]
FOREIGN += ["127.0.0.1.nip.example", "evil.example:127.0.0.1", "localhost, evil.example"]


@pytest.mark.parametrize(
    ("options", "allowed", "refused"),
    [
        ({}, LOOPBACK, FOREIGN),
        ({"host": "::1"}, LOOPBACK, FOREIGN),
        ({"allow_hosts": ["Box.example", "192.0.2.1"]}, ["box.example:1", "192.0.2.1"], ["b"]),
        ({"host": "192.0.2.7"}, ["192.0.2.7:3000", "localhost"], ["192.0.2.8", "evil.example"]),
        ({"host": "gpu-1"}, ["gpu-1:3000"], ["gpu-2", "gpu-1.evil.example"]),
        (
            {"host": "0.0.0.0"},
            ["192.0.2.1:3000", "[2001:db8::1]", socket.gethostname()],
            ["evil.example", "0.0.0.0.evil.example"],
        ),
    ],
)
def test_the_host_that_a_request_names(
    options: dict[str, Any], allowed: list[str], refused: list[str]
) -> None:
    with serving(app(**options)) as url:
        assert [status_for(url, host) for host in allowed] == [200] * len(allowed)
        assert [status_for(url, host) for host in refused] == [421] * len(refused)
        assert status_for(url, None, "1.0") == 421
        reply = httpx.get(f"{url}/healthz", headers={"Host": "evil.example"})
        assert reply.status_code == 421
        assert "'evil.example'" in reply.text
        assert "--allow-host" in reply.text


def test_a_token() -> None:
    with serving(app(token="secret")) as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        for headers in (
            {},
            {"Authorization": "Bearer no"},
            {"Authorization": "Bearer sécret".encode()},
        ):
            reply = httpx.get(f"{url}/sandboxes", headers=headers)  # type: ignore[arg-type]
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"] == "Bearer"
        client = Client(url, headers={"Authorization": "Bearer secret"})
        assert client.run(client.started(), "echo in")[0] == "in\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_addresses_need_a_token(host: str) -> None:
    with pytest.raises(UserError, match="SHELLEVAL_SOS_TOKEN"):
        serve(lambda image: LocalProvider(), host=host)


def test_a_log_line_for_each_request(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pytest_shelleval.sandboxes.server"):
        httpx.get(f"{url}/no%0Asuch")
        deadline = time.monotonic() + 5
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.02)
    line = caplog.records[-1].getMessage()
    assert 'GET "/no\\nsuch" 404' in line


# --- the command line


@pytest.mark.parametrize("token", ["", "secret"])
def test_the_command_serves_until_it_is_told_to_end(token: str) -> None:
    root = Path(__file__).resolve().parents[2]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest_shelleval.cli.main", "serve"),
            *("--port", str(port), "--allow-host", "box", "--allow-host", "box.example"),
        ],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root), "SHELLEVAL_SOS_TOKEN": token},
        text=True,
    )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    client = Client(f"http://127.0.0.1:{port}", headers=headers)
    for _ in range(200):
        try:
            client.http.get("/healthz")
            break
        except httpx.HTTPError:
            time.sleep(0.05)
    for host, status in (("box", 200), ("box.example", 200), ("other", 421)):
        assert client.http.get("/sandboxes", headers={"Host": host}).status_code == status
    client.started("sleep 7654321 &")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert 'POST "/sandboxes" 200' in said
    assert "Traceback" not in said
    warnings = [line for line in said.splitlines() if "can run commands as you" in line]
    assert len(warnings) == (0 if token else 1)
    assert all("--token or SHELLEVAL_SOS_TOKEN" in line for line in warnings)
    found = subprocess.run(["pgrep", "-f", "sleep 7654321"], capture_output=True, check=False)
    assert found.stdout == b""


SERVED = """
import sys
from pytest_shelleval.sandboxes.local.provider import LocalProvider
from pytest_shelleval.cli.serve import serve
serve(lambda image: LocalProvider(), port=int(sys.argv[1]), arrival=0.5)
"""


def test_the_server_waits_for_requests_for_a_limited_time() -> None:
    root = Path(__file__).resolve().parents[2]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, "-c", SERVED, str(port)], env=environment) as process:
        try:
            for _ in range(400):
                with contextlib.suppress(OSError):
                    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
                    break
                time.sleep(0.05)
            with connection:
                connection.sendall(REQUEST)
                assert connection.recv(4096) == b""
        finally:
            process.terminate()


def test_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_serve_parser(parser.add_subparsers())
    arguments = parser.parse_args(["serve", "--memory", "512M", "--max-sandboxes", "64"])
    assert (arguments.memory, arguments.max_sandboxes, arguments.port) == (512 << 20, 64, 3000)
    assert callable(arguments.run)
    assert main(["serve", "--host", "0.0.0.0"]) == 2
    assert "SHELLEVAL_SOS_TOKEN" in capsys.readouterr().err
