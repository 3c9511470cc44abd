"""What a run was made with: versions of the packages that affect it, and the project's commit."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pytest_shelleval.version import __version__


def versions() -> dict[str, str]:
    """Versions of the installed packages, by name."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"pytest-shelleval": __version__, "python": platform.python_version()}
    for package in ("pytest", "pytest-xdist", "openai", "datasets"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit(directory: Path) -> str | None:
    """The commit checked out in *directory*; None if unknown."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
