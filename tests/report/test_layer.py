"""report/ knows no pytest and imports only core."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from pytest_shelleval import report


def test_report_imports_only_core() -> None:
    names = [each.name for each in pkgutil.walk_packages(report.__path__, f"{report.__name__}.")]
    code = (
        "import sys, importlib\n"
        "sys.modules['pytest'] = sys.modules['_pytest'] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[2] for name in done.stdout.split() if "shelleval." in name}
    assert {name.partition(".")[0] for name in loaded} == {"core", "report"}
    assert "jinja2" not in done.stdout.split()
