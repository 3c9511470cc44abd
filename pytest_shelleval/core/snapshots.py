"""Setups that are paid for once: what they left in a sandbox, kept for other tasks with the same.

A setup is taken from a snapshot only where nothing can tell the difference: see :func:`repeatable`.
With a directory, several processes share what is kept, and wait for the one that is making it.
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
"""A setup shorter than this is as fast as its snapshot."""
_MOST_KEPT = 256 << 20

# A snapshot's files are as old as it is, and settings of the kernel are in no file.
_TELLS = re.compile(
    r"\b(date|datetime|time|ago|now|yesterday|today|tomorrow|EPOCH\w*|[acm]min|[acm]time|newer\w*"
    r"|sysctl|uptime|touch\s+-d)\b|%[WXYZwxyz]\b|/proc/sys|%\("
)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a setup wrote to its output and to the sandbox."""

    output: str
    truncated: bool
    data: bytes


def repeatable(texts: Iterable[str]) -> bool:
    """Whether none of a task's *texts* seems to look at the clock, at times or at the kernel."""
    return not any(_TELLS.search(text) for text in texts)


def key_of(script: str, sandbox: Mapping[str, Any]) -> str:
    """Names the state that *script* leads to in a sandbox with that ``info``."""
    kind = {name: value for name, value in sandbox.items() if name != "id"}
    text = json.dumps([kind, script], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Entry:
    """One key's place, while its task is set up."""

    def __init__(self, store: Snapshots, key: str, kept: Kept | None, wanted: bool) -> None:
        self._store = store
        self._key = key
        self.kept = kept
        self.wanted = wanted
        """Whether it is still unknown if this setup can be kept."""

    def keep(self, kept: Kept | None) -> None:
        """Keep it; with None, never ask again."""
        self._store.set(self._key, kept)


class Snapshots:
    """What setups left, by key."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._kept: dict[str, Kept | None] = {}
        self._room = _MOST_KEPT

    @contextlib.contextmanager
    def entry(self, key: str) -> Iterator[Entry]:
        """The place of *key*; where processes share, held until the first one has filled it."""
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
        """Keep it here, and for the others."""
        if kept is not None and len(kept.data) > self._room:
            kept = None
        self._room -= len(kept.data) if kept is not None else 0
        self._kept[key] = kept
        if self._directory is None:
            return
        content = b"" if kept is None else marshal.dumps((kept.output, kept.truncated, kept.data))
        part = self._directory / f"{key}.{os.getpid()}"
        with contextlib.suppress(OSError):  # a full disk: then each keeps its own
            part.write_bytes(content)
            part.replace(self._directory / key)

    def _read(self, path: Path, key: str) -> None:
        with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
            content = path.read_bytes()
            self._kept[key] = Kept(*marshal.loads(content)) if content else None
