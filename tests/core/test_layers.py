"""core, models and sandboxes know no pytest; the plugin imports nothing heavy."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import pytest_shelleval

INNER = ("core", "models", "sandboxes", "report", "validation")
HEAVY = {"openai", "datasets", "httpx", "docker", "rich", "pyarrow", "asyncio", "ctypes"}


def modules(*layers: str) -> list[str]:
    found = pkgutil.walk_packages(pytest_shelleval.__path__, "pytest_shelleval.")
    return [each.name for each in found if each.name.split(".")[1] in layers]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("layer", INNER)
def test_inner_layers_import_with_pytest_blocked(layer: str) -> None:
    names = modules(layer)
    assert names
    run(
        "import sys, importlib\n"
        "sys.modules['pytest'] = sys.modules['_pytest'] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )


@pytest.mark.parametrize("layer", INNER)
def test_inner_layers_do_not_import_the_pytest_side(layer: str) -> None:
    outer = {"plugin", "options", "items", "fixtures", "controller", "worker", "run", "terminal"}
    loaded = run(
        "import sys, importlib\n"
        f"for name in {modules(layer)!r}: importlib.import_module(name)\n"
        "print(*sys.modules)"
    ).split()
    assert not {f"pytest_shelleval.{name}" for name in outer} & set(loaded)


def test_core_imports_no_other_layer() -> None:
    loaded = run(
        "import sys, importlib\n"
        f"for name in {modules('core')!r}: importlib.import_module(name)\n"
        "print(*sys.modules)"
    ).split()
    for layer in ("models", "sandboxes", "report", "validation"):
        assert not [name for name in loaded if name.startswith(f"pytest_shelleval.{layer}")]


def test_the_plugin_imports_nothing_heavy() -> None:
    loaded = run(
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import pytest_shelleval.plugin\n"
        "print(*set(sys.modules) - before)"
    ).split()
    assert not HEAVY & {name.partition(".")[0] for name in loaded}


def test_the_public_names_are_there() -> None:
    for name in pytest_shelleval.__all__:
        assert getattr(pytest_shelleval, name) is not None
