"""Many sandboxes in one run leave nothing behind."""

from __future__ import annotations

import gc
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from local_users import mounts_left, unavailable

from pytest_shelleval.sandboxes.local.provider import LocalProvider

MANY = int(os.environ.get("SHELLEVAL_LEAK_SANDBOXES", "300"))
FIRST = 100
_KILOBYTES_EACH = 2


def held(provider: LocalProvider, folder: Path) -> dict[str, int]:
    """What this process and the zygote hold."""
    assert provider._zygote is not None
    gc.collect()
    # The host's other mounts are others' business.
    figures = {"temporary files": len(os.listdir(folder)), "mounts": len(mounts_left())}
    mounts = Path(f"/proc/{provider._zygote._process.pid}/mountinfo").read_text()
    figures["zygote mounts"] = len(mounts.splitlines())
    for name, process in (("client", os.getpid()), ("zygote", provider._zygote._process.pid)):
        folder = Path(f"/proc/{process}")
        status = dict(line.split(":", 1) for line in (folder / "status").open())
        figures[f"{name} fds"] = len(os.listdir(folder / "fd"))
        figures[f"{name} kB"] = int(status["VmRSS"].split()[0])
    figures["zombies"] = len((folder / f"task/{folder.name}/children").read_text().split())
    return figures


def work(provider: LocalProvider, number: int) -> None:
    sandbox: Any = provider.acquire()
    assert sandbox.exec("echo x > f; sleep 100 &", timeout=30).exit_code == 0
    if number % 3:
        sandbox.exec_session("cp f g", timeout=30)
    sandbox.close()


def test_nothing_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if unavailable():
        pytest.skip(unavailable())
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    provider = LocalProvider()
    try:
        for number in range(FIRST):
            work(provider, number)
        provider._forget_ended(5)
        before = held(provider, tmp_path)
        for number in range(FIRST, MANY):
            work(provider, number)
        provider._forget_ended(5)
        after = held(provider, tmp_path)
    finally:
        provider.close()
    print({name: (before[name], after[name]) for name in before})
    for name, value in after.items():
        # Spares come and go.
        slack = max(1024, _KILOBYTES_EACH * (MANY // 100)) if name.endswith("kB") else 4
        assert value <= before[name] + slack, (name, before, after)
