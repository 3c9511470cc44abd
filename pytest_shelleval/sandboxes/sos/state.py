"""State that the processes of one run share in files: permits, and sandboxes not yet stopped.

Locks on files end with the process that holds them, so a killed worker leaves only what is needed to
clean up after it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from pytest_shelleval.core.files import open_own

_JOURNAL = "sos-*.journal"


class Permits(Protocol):
    """Limits the concurrent sandboxes of a server."""

    def take(self) -> int | None:
        """A permit, or None when all are in use; never waits."""
        ...

    def give_back(self, permit: int) -> None:
        """Return a permit, so that others can take it."""
        ...


class OwnPermits:
    """Permits of this process alone."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = set(range(count))

    def take(self) -> int | None:
        """A permit, or None."""
        with self._lock:
            return self._free.pop() if self._free else None

    def give_back(self, permit: int) -> None:
        """Free again."""
        with self._lock:
            self._free.add(permit)


class SharedPermits:
    """Permits of all processes with the same folder and server: a locked file for each."""

    def __init__(self, folder: Path, url: str, count: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(url.encode()).hexdigest()[:12]
        self._paths = [folder / f"permit-{name}-{number}" for number in range(count)]
        self._lock = threading.Lock()
        self._held: dict[int, int] = {}

    def take(self) -> int | None:
        """A permit, or None."""
        with self._lock:
            for number, path in enumerate(self._paths):
                if number in self._held:
                    continue
                descriptor = open_own(path, os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    os.close(descriptor)
                    continue
                self._held[number] = descriptor
                return number
        return None

    def give_back(self, permit: int) -> None:
        """Free again."""
        with self._lock:
            descriptor = self._held.pop(permit, None)
        if descriptor is not None:
            os.close(descriptor)


class Journal:
    """The sandboxes that this process has created and not yet stopped, in a file if a folder is given."""

    def __init__(self, folder: Path | None) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, str] = {}
        self._path: Path | None = None
        self._descriptor = -1
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = folder / f"sos-{os.getpid()}-{os.urandom(4).hex()}.journal"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def created(self, url: str, identity: str) -> None:
        """Record a sandbox, before it is started."""
        with self._lock:
            self._live[identity] = url
            self._write({"id": identity, "url": url})

    def stopped(self, identity: str) -> None:
        """Record that a sandbox was stopped."""
        with self._lock:
            if self._live.pop(identity, None) is not None:
                self._write({"id": identity})

    def live(self) -> dict[str, str]:
        """Ids of sandboxes not yet stopped, each with its server's address."""
        with self._lock:
            return dict(self._live)

    def close(self) -> None:
        """Remove the file if all sandboxes are stopped; else leave it for a sweep."""
        with self._lock:
            if self._path is not None and self._descriptor >= 0:
                if not self._live:
                    self._path.unlink(missing_ok=True)
                os.close(self._descriptor)
                self._descriptor = -1

    def _write(self, line: dict[str, str]) -> None:
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # a full disk is no reason to fail a task
                os.write(self._descriptor, json.dumps(line).encode() + b"\n")


def has_journals(folder: Path) -> bool:
    """Whether *folder* lists sandboxes that may still have to be stopped."""
    return any(folder.glob(_JOURNAL))


def abandoned(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Journals in *folder* of processes that are gone: the file, and ids with addresses.

    Each is locked while the caller uses it.
    """
    for path in sorted(folder.glob(_JOURNAL)):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path, _read(path.read_text(errors="replace").splitlines())
        except OSError:
            continue  # its process runs, or another process has swept it
        finally:
            os.close(descriptor)


def _read(lines: Iterable[str]) -> dict[str, str]:
    live: dict[str, str] = {}
    for line in lines:
        try:
            entry = json.loads(line)
            identity, url = str(entry["id"]), entry.get("url")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if url is None:
            live.pop(identity, None)
        else:
            live[identity] = str(url)
    return live
