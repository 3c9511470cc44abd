"""Where the local sandbox can't work it says so, why, and what to type."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import local_users
import pytest

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.sandboxes.local.diagnosis import diagnosis
from pytest_shelleval.sandboxes.local.probe import probe
from pytest_shelleval.sandboxes.local.provider import LocalProvider

TRY = """
from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.sandboxes.local.probe import probe
from pytest_shelleval.sandboxes.local.provider import LocalProvider
report = probe()
print(report.ok)
print(report.message)
provider = LocalProvider()
try:
    sandbox = provider.acquire()
    print(provider.facts)
    print(sandbox.exec("touch /tmp/x /etc/x /usr/local/bin/x /usr/bin/x && echo works", timeout=20))
except SandboxUnavailable as error:
    assert str(error) == report.message
provider.close()
"""
UNDER_FILTER = """
import ctypes, os
from pytest_shelleval.sandboxes.local.world import namespaces, seccomp
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
namespaces.install_filter(seccomp.build(os.uname().machine))
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="arranged with root's powers")


@pytest.fixture(autouse=True)
def works_here() -> None:
    if local_users.unavailable():
        pytest.skip(local_users.unavailable())
    if not shutil.which("unshare"):
        pytest.skip("needs unshare(1)")


def run(*command: str) -> str:
    done = subprocess.run(
        command,
        env={"PYTHONPATH": local_users.ROOT, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def under(setup: str, *options: str) -> str:
    script = f'set -e\n{setup}\nexec "$0" -c "$1"'
    return run("unshare", *options, "sh", "-c", script, sys.executable, TRY)


def test_it_works_here() -> None:
    assert probe().ok
    assert run(sys.executable, "-c", TRY).startswith("True\n")


def test_calls_that_are_denied() -> None:
    told = run(sys.executable, "-c", UNDER_FILTER + TRY)
    assert told.startswith("False\n")
    assert "Operation not permitted" in told
    assert "--shelleval-sandbox=docker" in told


def test_namespaces_that_are_limited() -> None:
    told = under("echo 0 > /proc/sys/user/max_user_namespaces", "-Ur")
    assert told.startswith("False\n")
    assert "sudo sysctl -w user.max_user_namespaces" in told


@as_root
def test_a_covered_proc() -> None:
    told = under("mount -t tmpfs none /proc/driver", "-m")
    assert told.startswith("False\n")
    assert "--security-opt systempaths=unconfined" in told


@as_root
def test_something_mounted_among_the_programs() -> None:
    told = under("mount -t tmpfs none /usr/src", "-m")
    assert told.startswith("True\n")
    assert "works" in told


@as_root
def test_something_mounted_among_the_programs_of_an_ordinary_user() -> None:
    interpreter = local_users.ordinary_interpreter()
    if interpreter is None or not shutil.which("setpriv"):
        pytest.skip("needs an interpreter for ordinary users, and setpriv(1)")
    user = str(local_users.ORDINARY)
    told = run(
        *("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /usr/src && exec "$@"', "sh"),
        *("setpriv", "--reuid", user, "--regid", user, "--clear-groups"),
        *(interpreter, "-B", "-c", TRY),
    )
    assert told.startswith("True\n")
    assert "'read_only': '/usr'" in told  # but not the folders in it
    assert "works" in told


def test_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    made = probe()
    assert not made.ok
    assert "needs Linux" in made.message


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("kernel/unprivileged_userns_clone", "0"),
    ],
)
def test_settings_are_named(monkeypatch: pytest.MonkeyPatch, setting: str, value: str) -> None:
    monkeypatch.setattr(
        "pytest_shelleval.sandboxes.local.diagnosis._setting",
        lambda path: value if path == setting else "",
    )
    message = diagnosis({"stage": "id map", "error": "id map: Operation not permitted"}).message
    assert f"sudo sysctl -w {setting.replace('/', '.')}=" in message


def test_a_zygote_that_can_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    provider = LocalProvider()
    with pytest.raises(Exception, match="did not start") as caught:
        provider.acquire()
    assert not isinstance(caught.value, SandboxUnavailable)
    provider.close()
