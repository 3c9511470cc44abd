"""The Docker sandbox, alone and behind our server, on an engine that the tests start."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from container_contract import *  # noqa: F403
from container_contract import OUTPUT, fresh, typed

docker = pytest.importorskip("docker", reason="pip install 'pytest-shelleval[docker]'")

# ruff: noqa: E402 - what follows needs the SDK
import engine

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.core.sandbox import Sandbox, SandboxProvider
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.docker_engine import owner
from pytest_shelleval.sandboxes.docker_engine.provider import DockerProvider
from pytest_shelleval.sandboxes.local.image import folder_of
from pytest_shelleval.sandboxes.sos.provider import SosProvider

LIMITS = Limits(memory=200 << 20, disk=32 << 20, processes=64, output=OUTPUT)


@pytest.fixture(scope="module")
def docker_engine() -> Iterator[str]:
    """The address of an engine that has the image; the environment names it."""
    reason = engine.why_not()
    if reason:
        pytest.skip(reason)
    with pytest.MonkeyPatch.context() as patch, engine.running_engine() as address:
        patch.setenv("DOCKER_HOST", address)
        engine.import_image(address)
        yield address


@pytest.fixture(scope="module")
def boxes(docker_engine: str) -> Iterator[DockerProvider]:
    provider = DockerProvider(LIMITS, image=engine.IMAGE)
    yield provider
    provider.close()
    assert containers() == []


@pytest.fixture
def box(boxes: DockerProvider) -> Iterator[Sandbox]:
    sandbox = boxes.acquire()
    yield sandbox
    sandbox.close()


def containers() -> list[Any]:
    client = docker.from_env()
    found: list[Any] = client.api.containers(all=True)
    client.close()
    return found


def test_what_it_is(box: Sandbox, boxes: DockerProvider) -> None:
    provider: SandboxProvider = boxes
    assert provider.info == {"kind": "docker", "image": engine.IMAGE}
    assert box.info == {"kind": "docker", "image": engine.IMAGE, "id": box.id}
    client = docker.from_env()
    settings = client.api.inspect_container(box.id.removeprefix("docker-"))["HostConfig"]
    client.close()
    assert settings["NetworkMode"] == "none"
    assert settings["Memory"] == settings["MemorySwap"] == LIMITS.memory
    assert settings["PidsLimit"] <= LIMITS.processes + 8
    assert settings["CapDrop"] == ["ALL"]
    assert "NET_RAW" not in settings["CapAdd"]
    assert not settings["Privileged"]
    assert settings["NanoCpus"]
    assert settings["AutoRemove"]


def test_root_at_home(box: Sandbox) -> None:
    for run in (fresh, typed):
        lines = run(box, "id -u; hostname; pwd; echo $HOME $USER $LANG; ulimit -c").output.split()
        assert lines == ["0", "sandbox", "/home/shellm", "/home/shellm", "root", "C.UTF-8", "0"]


def test_no_network(box: Sandbox) -> None:
    assert fresh(box, "cat /proc/net/dev | grep -c :").output == "1\n"


def test_accounts(box: Sandbox) -> None:
    text = """
    set -e
    groupadd team; useradd -m -s /bin/bash -G team alice; echo 'alice:secret' | chpasswd
    id -nG alice; su - alice -c 'id -un; pwd'; su alice -c 'echo secret | su alice -c whoami'
    touch f; chown alice:team f; stat -c %U:%G f; mknod null c 1 3
    """
    lines = fresh(box, text).output.split()
    assert lines[:4] == ["alice", "team", "alice", "/home/alice"]
    assert lines[-2:] == ["alice", "alice:team"]


@pytest.mark.parametrize("run", [fresh, typed])
def test_memory(box: Sandbox, run: Any) -> None:
    result = run(box, "x=$(head -c 400M /dev/zero | tr '\\0' x); echo ${#x}")
    assert (result.exit_code, result.limit) == (137, "memory")
    assert fresh(box, "echo alive").output == "alive\n"


def test_disk_and_processes(box: Sandbox) -> None:
    result = fresh(box, "head -c 100M /dev/zero > /tmp/full")
    assert (result.exit_code, result.limit) == (153, "disk")
    result = fresh(box, "for i in {1..200}; do sleep 600 & done; jobs -p | wc -l", timeout=2)
    assert (result.timed_out, result.limit) == (True, "processes")
    assert fresh(box, "echo alive").output == "alive\n"


def test_commands_can_not_kill_the_first_process(box: Sandbox) -> None:
    result = typed(box, "kill -9 1; kill 1; kill -9 -1; cd /tmp; echo on")
    assert (result.exit_code, result.exited) == (0, False)
    assert result.output.endswith("on\n")
    assert typed(box, "pwd").output == "/tmp\n"
    assert typed(box, "exit 5").exit_code == 5
    assert fresh(box, "echo still").output == "still\n"


def test_a_fork_bomb_ends(box: Sandbox) -> None:
    assert typed(box, "f() { f | f & }; f; sleep 100", timeout=2).timed_out
    assert fresh(box, "echo alive").output == "alive\n"


def test_everything_removed(box: Sandbox) -> None:
    typed(box, "rm -rf --no-preserve-root / 2>/dev/null")
    result = fresh(box, "true")
    assert result.exit_code in (126, 127)


def test_image_that_is_not_there(docker_engine: str) -> None:
    lines: list[str] = []
    provider = DockerProvider(LIMITS, image="localhost:1/none:latest", progress=lines.append)
    with pytest.raises(SandboxUnavailable, match="docker load"):
        provider.acquire()
    provider.close()


def test_no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(SandboxUnavailable, match="DOCKER_HOST"):
        DockerProvider(LIMITS, image=engine.IMAGE).acquire()


KILLED = """
import sys, time
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.docker_engine.provider import DockerProvider
provider = DockerProvider(Limits(), image=sys.argv[1], run="killed")
sandbox = provider.acquire()
sandbox.exec("sleep 1000 &", timeout=10)
print("up", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_no_container(docker_engine: str) -> None:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, engine.IMAGE],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout
    assert process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 30
    while left := _of_run("killed"):
        # one may have been made and never started: the next run finds it
        client = docker.from_env()
        owner.remove_leftovers(client.api)
        client.close()
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def test_leftovers_of_the_dead_only(docker_engine: str) -> None:
    client = docker.from_env()
    mine = owner.labels("left")
    dead = {**mine, owner.OWNER: "999999999:1"}
    elsewhere = {**dead, owner.BOOT: "another"}
    for labels in (mine, dead, elsewhere):
        client.api.create_container(engine.IMAGE, ["/bin/bash"], labels=labels)
    assert owner.remove_leftovers(client.api) == 1
    assert len(_of_run("left")) == 2
    for container in _of_run("left"):
        client.api.remove_container(container["Id"], force=True)
    client.close()


def _of_run(run: str) -> list[Any]:
    return [each for each in containers() if each["Labels"].get(owner.RUN) == run]


def test_an_exported_image_is_unpacked_whole(
    docker_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = docker.from_env()
    script = """
        mknod /dev/sda b 8 0; mkfifo -m 600 /srv/fifo; chown 7:8 /srv/fifo; echo a > '/srv/ü x'
        ln /etc/passwd /srv/hard; chmod u+s /srv/hard; ln -s / /srv/soft; chmod 2750 /srv
    """
    container = client.api.create_container(engine.IMAGE, ["/bin/bash", "-c", script])
    client.api.start(container)
    assert client.api.wait(container)["StatusCode"] == 0
    path = tmp_path / "image.tar"
    with path.open("wb") as file:
        file.writelines(client.api.export(container))
    client.api.remove_container(container)
    client.close()
    folder = folder_of(path)
    found = {str(each.relative_to(folder)) for each in folder.rglob("*")}
    with tarfile.open(path) as archive:
        members = [each for each in archive if each.isfifo() or not each.isdev()]
    assert len(members) > 1000
    assert {"srv/fifo", "srv/ü x"} <= found
    assert found == {each.name for each in members}
    for each in members:
        status = (folder / each.name).lstat()
        assert (status.st_uid, status.st_gid) == (each.uid, each.gid), each.name
        assert stat.S_ISDIR(status.st_mode) == each.isdir()
        assert stat.S_ISFIFO(status.st_mode) == each.isfifo()
        if each.issym():
            assert os.readlink(folder / each.name) == each.linkname
        else:
            mode = stat.S_IMODE(each.mode) | (0o700 if each.isdir() else 0)
            assert stat.S_IMODE(status.st_mode) == mode, each.name
        if each.islnk():
            assert os.path.samestat(status, (folder / each.linkname).lstat())
        elif each.isreg():
            assert status.st_size == each.size
    assert any(each.islnk() for each in members)


@pytest.mark.parametrize("ours", [True, False])
def test_behind_our_server(docker_engine: str, ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn", reason="pip install 'pytest-shelleval[serve]'")
    from servers import serving

    from pytest_shelleval.sandboxes.server.app import create_app
    from pytest_shelleval.sandboxes.sos import api

    if not ours:
        monkeypatch.setattr(api.Api, "health", lambda self, url: api.Health(None))
    with serving(create_app(lambda image: DockerProvider(LIMITS, image=image))) as url:
        provider = SosProvider([url], image=engine.IMAGE, pool_size=1)
        sandbox = provider.acquire()
        assert fresh(sandbox, "echo a > f; exit 3").exit_code == 3
        assert typed(sandbox, "cd /srv; cat ~/f").output == "a\n"
        result = typed(sandbox, "printf 'x\\ty'; exit 4")
        assert (result.output, result.exit_code, result.exited) == ("x\ty", 4, True)
        assert fresh(sandbox, "pwd", cwd=sandbox.session_directory()).output == "/srv\n"
        with pytest.raises(SandboxUnavailable, match="--shelleval-sandbox-image"):
            SosProvider([url], image="localhost:1/none", pool_size=0).acquire()
        provider.close()
