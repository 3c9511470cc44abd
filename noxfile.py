"""What has to pass before a change lands, each in a fresh environment: ``nox``, or ``nox -s lint``."""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv"
nox.options.sessions = ["lint", "types", "tests"]


@nox.session
def tests(session: nox.Session) -> None:
    """All tests, or those that are named after ``--``."""
    session.install("-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """The linter and the formatter."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """The type checker."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def lowest(session: nox.Session) -> None:
    """The plugin's tests with the oldest versions that pyproject.toml allows."""
    oldest = f"{session.virtualenv.location}/lowest.txt"
    extras = ("--extra", "docker", "--extra", "serve")
    resolve = ("uv", "pip", "compile", "-q", "--resolution", "lowest-direct", *extras)
    session.run(*resolve, "--python", f"{session.bin}/python", "-o", oldest, "pyproject.toml")
    session.install("-e", ".[docker,serve]", "pytest-rerunfailures", "-c", oldest)
    session.run("pytest", *(session.posargs or ["tests/plugin"]))
