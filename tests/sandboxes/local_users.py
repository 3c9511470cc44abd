"""Fixtures: the local sandbox as the user who runs the tests, and as an ordinary one."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import driver
import pytest

import pytest_shelleval
from pytest_shelleval.core import errors
from pytest_shelleval.core.sandbox import ExecResult
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.probe import probe
from pytest_shelleval.sandboxes.local.provider import LocalProvider

ORDINARY = 65534
ROOT = str(Path(pytest_shelleval.__file__).resolve().parent.parent)


class RemoteSandbox:
    """A sandbox of another user's."""

    def __init__(self, provider: RemoteProvider, identity: str, info: dict[str, Any]) -> None:
        self._provider, self.id, self.info = provider, identity, info

    def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
        return ExecResult(**self._ask("exec", text=text, timeout=timeout, cwd=cwd))

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        return ExecResult(**self._ask("exec_session", text=text, timeout=timeout))

    def snapshot(self) -> bytes | None:
        data = self._ask("snapshot")["data"]
        return base64.b64decode(data) if data else None

    def restore(self, snapshot: bytes) -> None:
        self._ask("restore", data=base64.b64encode(snapshot).decode())

    def session_directory(self) -> str:
        return str(self._ask("directory")["directory"])

    def mark(self) -> None:
        self._ask("mark")

    def effects(self) -> dict[str, Any]:
        return self._ask("effects")

    def gone(self) -> bool:
        return bool(self._ask("gone")["gone"])

    def close(self) -> None:
        self._ask("close")

    def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        return self._provider.ask(operation, id=self.id, **fields)


class RemoteProvider:
    """A LocalProvider in a process of another user's."""

    def __init__(
        self,
        limits: Limits,
        interpreter: str,
        rootfs: str = "",
        cache: str = "",
        files: Path | None = None,
        before: Sequence[str] = (),
        uid: int = ORDINARY,
    ) -> None:
        """*before*: a program, with its arguments, that starts the rest."""
        self.facts: dict[str, Any] = {}
        driven = [interpreter, driver.__file__, json.dumps(dataclasses.asdict(limits)), rootfs]
        arguments = [*before, *driven]
        if files is not None:
            arguments = _granting_ids(files, arguments)
        self._process = subprocess.Popen(
            arguments,
            env={
                "PYTHONPATH": ROOT,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PATH": os.environ["PATH"],
                "XDG_CACHE_HOME": cache,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=None if files is not None else uid,
            group=None if files is not None else uid,
            extra_groups=None if files is not None else [],
        )

    def ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps({"do": operation, **fields}), file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "kind" in answer and "error" in answer:
            raise getattr(errors, answer["kind"])(answer["error"])
        return answer

    def acquire(self) -> RemoteSandbox:
        answer = self.ask("acquire")
        self.facts = answer["facts"]
        return RemoteSandbox(self, answer["id"], answer["info"])

    def close(self) -> None:
        if self._process.poll() is None:
            self.ask("stop")
            self._process.communicate(timeout=20)


def _granting_ids(folder: Path, arguments: list[str]) -> list[str]:
    """Run *arguments* as an ordinary user to whom a range of ids is granted, in its eyes alone."""
    for tool in ("newuidmap", "newgidmap", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")
    script = "set -e; mount --make-rprivate /"
    for name in ("subuid", "subgid"):
        if not Path("/etc", name).exists():
            pytest.skip(f"no /etc/{name} here")
        (folder / name).write_text(f"{ORDINARY}:1000000:65536\n")
        script += f"; mount --bind {folder / name} /etc/{name}"
    script += f'; exec setpriv --reuid={ORDINARY} --regid={ORDINARY} --clear-groups "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", *arguments]


@functools.cache
def ordinary_interpreter() -> str | None:
    """A Python that an ordinary user can run with this checkout."""
    for interpreter in (sys.executable, "/usr/bin/python3"):
        try:
            tried = subprocess.run(
                [interpreter, "-c", "import pytest_shelleval.sandboxes.local.provider"],
                env={"PYTHONPATH": ROOT, "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
                user=ORDINARY,
                group=ORDINARY,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return interpreter
    return None


@functools.cache
def unavailable() -> str:
    """Why there is no local sandbox on this machine."""
    report = probe()
    return "" if report.ok else report.message


def make_provider(user: str, limits: Limits, **options: Any) -> LocalProvider | RemoteProvider:
    if unavailable():
        pytest.skip(unavailable())
    if user == "self":
        return LocalProvider(limits)
    if os.geteuid() != 0:
        pytest.skip("the tests already run as an ordinary user")
    interpreter = ordinary_interpreter()
    if interpreter is None:
        pytest.skip("no interpreter here that an ordinary user can run with this checkout")
    return RemoteProvider(limits, interpreter, **options)


def mounts_left() -> list[str]:
    """Mounts of the host's that look like a sandbox's."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "/layers/" in line and "upperdir=/writable" in line]


@pytest.fixture(scope="module", params=["self", "ordinary"])
def provider(request: pytest.FixtureRequest) -> Iterator[LocalProvider | RemoteProvider]:
    """A provider with the module's LIMITS; nothing of it may be left."""
    made = make_provider(request.param, getattr(request.module, "LIMITS", Limits()))
    yield made
    made.close()
    assert not mounts_left()


@pytest.fixture
def sandbox(provider: Any) -> Iterator[Any]:
    """A fresh sandbox; its processes must all be gone after it."""
    made = provider.acquire()
    yield made
    made.close()
    assert made.gone() if isinstance(made, RemoteSandbox) else driver.gone(made)


@pytest.fixture
def many_ids(provider: Any) -> bool:
    """Whether the sandbox has more users than root."""
    provider.acquire().close()
    return bool(provider.facts["id_count"] > 1)
