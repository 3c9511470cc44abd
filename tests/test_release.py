"""What a release holds: the wheel and the source distribution, built as for a release."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

from pytest_shelleval import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both; built with what is installed, so that no network is needed."""
    for package in ("build", "hatchling", "twine"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return folder


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def metadata(wheel: zipfile.ZipFile) -> Message:
    name = f"pytest_shelleval-{__version__}.dist-info/METADATA"
    return message_from_bytes(wheel.read(name))


def test_the_wheel(distributions: Path) -> None:
    (path,) = distributions.glob("*.whl")
    assert path.name == f"pytest_shelleval-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        about = metadata(wheel)
        entries = wheel.read(f"pytest_shelleval-{__version__}.dist-info/entry_points.txt").decode()
    package = ROOT / "pytest_shelleval"
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert names == {path.relative_to(ROOT).as_posix() for path in there}
    assert "pytest_shelleval/report/assets/report.html.j2" in names
    assert about["Version"] == __version__
    assert set(about.get_all("Provides-Extra", [])) == {"dev", "docker", "mutants", "serve"}
    assert "shelleval = pytest_shelleval.plugin" in entries
    assert "shelleval = pytest_shelleval.cli.main:main" in entries


def test_the_source_distribution(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for each in ("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "CONTRIBUTING.md"):
        assert each in names
    for folder in ("tests", "docs", "conftest_examples", "benchmarks"):
        tracked = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix in (".py", ".md", ".jsonl", ".yml", ".txt", ".ini")
            if not {"evaluation_results", "__pycache__"} & set(path.parts)
        }
        assert tracked
        assert tracked <= names, folder
    assert not [name for name in names if name.endswith(".pyc") or ".venv" in name]


def test_the_index_would_take_them(distributions: Path) -> None:
    said = run("-m", "twine", "check", "--strict", *map(str, distributions.iterdir()))
    assert said.count("PASSED") == 2


def test_the_version_stands_in_one_place() -> None:
    for name in ("pyproject.toml", "CITATION.cff"):
        assert not re.search(r"^version\s*[:=]", (ROOT / name).read_text(), re.MULTILINE)
