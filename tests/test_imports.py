"""What an import costs, and what it offers; the arrows between modules are import-linter's to check."""

from __future__ import annotations

import subprocess
import sys

import pytest_shelleval

HEAVY = {
    "asyncio", "ctypes", "datasets", "docker", "httpx", "httpx2", "jinja2", "openai", "pyarrow",
    "ray", "rich", "tqdm",
}  # fmt: skip


def test_the_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import pytest_shelleval.plugin\n"
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "pytest_shelleval.plugin" in loaded
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_the_public_names_are_there() -> None:
    for name in pytest_shelleval.__all__:
        assert getattr(pytest_shelleval, name) is not None
