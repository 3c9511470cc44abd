"""Snapshots of setups: each setup runs once, and other tasks with the same setup restore its outcome.

A snapshot is used only if the task can't tell the difference: see :func:`repeatable`. With a
directory, several processes share the snapshots, and wait for the one that is making a new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import marshal
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_shelleval.core.files import locked

WORTH_SECONDS = 0.05
"""A setup shorter than this is as fast as restoring its snapshot."""
_MOST_KEPT = 256 << 20  # bytes

# Restored files have old times, and kernel settings are in no file: texts that may look at these.
_TELLS = re.compile(
    r"\b(date|datetime|time|ago|now|yesterday|today|tomorrow|EPOCH\w*|[acm]min|[acm]time|newer\w*"
    r"|sysctl|uptime|touch\s+-d)\b|%[WXYZwxyz]\b|/proc/sys|%\("
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot: what a setup wrote to its output and to the sandbox."""

    output: str
    truncated: bool
    data: bytes


def repeatable(texts: Iterable[str]) -> bool:
    """Whether none of a task's *texts* seems to use the clock, file times or kernel settings."""
    return not any(_TELLS.search(text) for text in texts)


def key_of(script: str, sandbox: Mapping[str, Any]) -> str:
    """The key of the state after *script* in a *sandbox* with that ``info``."""
    kind = {name: value for name, value in sandbox.items() if name != "id"}
    text = json.dumps([kind, script], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Entry:
    """The snapshot of one key, while its task is set up."""

    def __init__(self, store: Snapshots, key: str, kept: Kept | None, wanted: bool) -> None:
        self._store = store
        self._key = key
        self.kept = kept
        self.wanted = wanted
        """Whether it is not yet known if this setup can be cached."""

    def keep(self, kept: Kept | None) -> None:
        """Store the snapshot; None: this setup can't be cached, do not try again."""
        self._store.set(self._key, kept)


class Snapshots:
    """A store of snapshots, by key."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._kept: dict[str, Kept | None] = {}
        self._room = _MOST_KEPT

    @contextlib.contextmanager
    def entry(self, key: str) -> Iterator[Entry]:
        """The entry of *key*; in a shared directory, locked until the first process has stored it."""
        if key not in self._kept and self._directory is not None:
            self._read(self._directory / key, key)
        if key in self._kept:
            yield Entry(self, key, self._kept[key], False)
        elif self._directory is None:
            yield Entry(self, key, None, True)
        else:
            with locked(self._directory / f"{key}.lock"):
                self._read(self._directory / key, key)
                yield Entry(self, key, self._kept.get(key), key not in self._kept)

    def set(self, key: str, kept: Kept | None) -> None:
        """Store it in this process, and in the directory for the others."""
        if kept is not None and len(kept.data) > self._room:
            kept = None
        self._room -= len(kept.data) if kept is not None else 0
        self._kept[key] = kept
        if self._directory is None:
            return
        content = b"" if kept is None else marshal.dumps((kept.output, kept.truncated, kept.data))
        part = self._directory / f"{key}.{os.getpid()}"
        with contextlib.suppress(OSError):  # a full disk: then each process keeps its own
            part.write_bytes(content)
            part.replace(self._directory / key)

    def _read(self, path: Path, key: str) -> None:
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            content = path.read_bytes()
            self._kept[key] = Kept(*marshal.loads(content)) if content else None
