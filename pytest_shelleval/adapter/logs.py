"""Writes debug.log: what a run did and when, a line for each request and each step in a sandbox.

Modules log to loggers of their own names, below ``pytest_shelleval``. The controller starts a new file
and renames the previous one to debug.earlier.log; a run that resumes appends. A worker opens the
controller's file and appends each line in one write, which POSIX keeps whole, so that a killed worker
loses no line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from typing import TYPE_CHECKING

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import open_own
from pytest_shelleval.core.provenance import versions
from pytest_shelleval.core.redaction import redacted
from pytest_shelleval.report.words import inert

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.adapter.run import Run

NAME, EARLIER = "debug.log", "debug.earlier.log"
_ROOT = logging.getLogger("pytest_shelleval")
_PYTEST_OPTIONS = ("log_level", "log_cli_level", "log_file", "log_file_level")


class _Lines(logging.Formatter):
    """``2026-01-02T03:04:05.678Z INFO gw0 core.attempt: ...``, in one line, without secrets."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        module = record.name.removeprefix("pytest_shelleval.")
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        text = redacted(text).replace("\n", "\\n").replace("\r", "\\r")
        milliseconds = int(record.msecs)
        head = f"{stamp}.{milliseconds:03d}Z {record.levelname} {self._process} {module}: "
        return f"{head}{text}\n"


class _Printed(logging.Formatter):
    """Wraps *formatter* for lines that pytest prints: no secrets, no workflow commands."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return inert(redacted(self._formatter.format(record)))


class FileHandler(logging.Handler):
    """Appends each line to a file in one write. A line that can't be written does not end the run."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            self.write(self.format(record))
        except Exception:
            self.handleError(record)

    def write(self, text: str) -> None:
        """Write whole lines that are formatted already."""
        with contextlib.suppress(OSError):  # a full disk is reported when results are written
            os.write(self._descriptor, text.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        super().close()


def start(config: pytest.Config, run: Run) -> None:
    """Begin debug.log in the controller. Raises UserError if the file can't be written."""
    settings = run.settings
    path = settings.output_dir / NAME
    try:
        if os.path.lexists(path) and not settings.resume:
            path.replace(path.with_name(EARLIER))
        descriptor = open_own(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from error
    _install(config, FileHandler(descriptor), settings.log_level, "main")
    logger = logging.getLogger(__name__)
    logger.info("versions %s", json.dumps(versions()))
    logger.info("settings %s", json.dumps(settings.public()))


def start_worker(config: pytest.Config, run: Run) -> None:
    """In a worker, log to the controller's file."""
    name = config.workerinput["workerid"]  # type: ignore[attr-defined]
    path = run.settings.output_dir / NAME
    with contextlib.suppress(OSError):
        descriptor = open_own(path, os.O_WRONLY | os.O_APPEND)
        _install(config, FileHandler(descriptor), run.settings.log_level, name)


def _install(config: pytest.Config, handler: logging.Handler, level: str, process: str) -> None:
    handler.setFormatter(_Lines(process))
    before = _ROOT.level
    _ROOT.addHandler(handler)
    _ROOT.setLevel(level.upper())
    plugin = config.pluginmanager.getplugin("logging-plugin")
    live = getattr(plugin, "log_cli_handler", None)
    if isinstance(live, logging.Handler) and live.formatter is not None:
        live.setFormatter(_Printed(live.formatter))
    if not any(config.getoption(name, None) for name in _PYTEST_OPTIONS):
        # pytest would keep these lines for every item, and show them with each failure
        for name in ("report_handler", "caplog_handler"):
            kept = getattr(plugin, name, None)
            if isinstance(kept, logging.Handler):
                kept.addFilter(_not_ours)

    def remove() -> None:
        _ROOT.removeHandler(handler)
        _ROOT.setLevel(before)
        handler.close()

    config.add_cleanup(remove)


def _not_ours(record: logging.LogRecord) -> bool:
    return not record.name.startswith(f"{_ROOT.name}.")
