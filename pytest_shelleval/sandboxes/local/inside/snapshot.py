"""Snapshots: everything written in a sandbox, saved as bytes and restored in a fresh one.

It is read from overlay's own directories, and restored through the merged file system by ordinary
calls, so that the copy is not a lower layer: hard links stay hard links when they are written to, and
directories can be renamed, as if the setup had run.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import shutil
import stat
from collections.abc import Sequence

MOST_BYTES = 32 << 20
MOST_ENTRIES = 10_000
_DEEPEST = 64
_OVERLAY = "user.overlay."
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE, _DIRECTORY, _LINK, _OTHER, _GONE, _HARD = range(6)
# System V objects, which outlive their processes and are in no file.
_SHARED = ("msg", "sem", "shm")


class NotCaughtError(Exception):
    """The sandbox has something that a snapshot can't restore."""


def take(parts: Sequence[tuple[str, int]]) -> bytes:
    """A snapshot of the *parts*: each a path and a descriptor of its writable layer.

    Raises NotCaughtError if it can't be restored exactly.
    """
    for kind in _SHARED:
        with contextlib.suppress(OSError), open(f"/proc/sysvipc/{kind}", "rb") as file:
            if len(file.readlines()) > 1:
                raise NotCaughtError(f"System V {kind}")
    taker = _Taker()
    for path, upper in parts:
        taker.add_directory(path, os.open(".", _FOLDER, dir_fd=upper), 0)
    return marshal.dumps(taker.entries)


class _Taker:
    def __init__(self) -> None:
        self.entries: list[tuple[object, ...]] = []
        self._room = MOST_BYTES
        self._hard: dict[tuple[int, int], str] = {}

    def add_directory(self, path: str, folder: int, depth: int) -> None:
        """Add a directory and everything in it; closes *folder*."""
        try:
            if depth > _DEEPEST or len(self.entries) > MOST_ENTRIES:
                raise NotCaughtError("too much")
            marks, attributes = _attributes(folder)
            self._add(path, _DIRECTORY, os.fstat(folder), "opaque" in marks, attributes)
            for name in os.listdir(folder):
                self._add_entry(f"{path}/{name}", name, folder, depth)
        finally:
            os.close(folder)

    def _add(
        self, path: str, kind: int, status: os.stat_result, what: object, more: object
    ) -> None:
        owner = (status.st_mode, status.st_uid, status.st_gid)
        self.entries.append(
            (path, kind, *owner, status.st_atime_ns, status.st_mtime_ns, what, more)
        )

    def _add_entry(self, path: str, name: str, folder: int, depth: int) -> None:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            self.add_directory(path, os.open(name, _FOLDER, dir_fd=folder), depth + 1)
        elif stat.S_ISCHR(mode) and not status.st_rdev:
            self._add(path, _GONE, status, None, ())
        elif status.st_nlink > 1 and (status.st_dev, status.st_ino) in self._hard:
            self._add(path, _HARD, status, self._hard[status.st_dev, status.st_ino], ())
        elif len(self.entries) > MOST_ENTRIES:
            raise NotCaughtError("too much")
        else:
            self._hard[status.st_dev, status.st_ino] = path
            if stat.S_ISREG(mode):
                self._add_file(path, name, folder, status)
            elif stat.S_ISLNK(mode):
                self._add(path, _LINK, status, os.readlink(name, dir_fd=folder), ())
            else:
                self._add(path, _OTHER, status, None, ())

    def _add_file(self, path: str, name: str, folder: int, status: os.stat_result) -> None:
        size = status.st_size
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=folder)
        try:
            attributes = _attributes(file)[1]
            if not status.st_blocks and size:
                # The whole file is a hole, and may be larger than any disk.
                self._add(path, _FILE, status, size, attributes)
                return
            self._room -= size
            if self._room < 0 or status.st_blocks * 512 < size:
                raise NotCaughtError("too much, or a file with holes")
            content = b"".join(iter(lambda: os.read(file, 1 << 20), b""))
        finally:
            os.close(file)
        if len(content) != size:
            raise NotCaughtError("a file that changes")
        self._add(path, _FILE, status, content, attributes)


def _attributes(descriptor: int) -> tuple[set[str], tuple[tuple[str, bytes], ...]]:
    """Overlay's own marks that are set, and the other extended attributes."""
    marks, attributes = set(), []
    for name in os.listxattr(descriptor):
        value = os.getxattr(descriptor, name)
        if not name.startswith(_OVERLAY):
            attributes.append((name, value))
        elif name == f"{_OVERLAY}opaque" and value == b"y":
            marks.add("opaque")
        elif name == f"{_OVERLAY}redirect":
            raise NotCaughtError("a directory that overlay moved")
    return marks, tuple(attributes)


def restore(data: bytes) -> None:
    """Restore the snapshot *data* of :func:`take` in this sandbox; an OSError leaves it incomplete."""
    times: list[tuple[str, int, int]] = []
    for path, kind, mode, uid, gid, accessed, modified, what, attributes in marshal.loads(data):
        path = path or "/"
        existing = None
        with contextlib.suppress(FileNotFoundError):
            existing = os.lstat(path)
        if existing is not None and not (
            kind == _DIRECTORY and stat.S_ISDIR(existing.st_mode) and not what
        ):
            _remove(path, existing)
            existing = None
        if kind == _GONE:
            continue
        if kind == _HARD:
            os.link(what, path, follow_symlinks=False)
            continue
        if kind == _DIRECTORY:
            if existing is None:
                os.mkdir(path, 0o700)
        elif kind == _LINK:
            os.symlink(what, path)
        elif kind == _OTHER:
            os.mknod(path, mode)
        else:
            _write(path, what)
        if existing is None:
            existing = os.lstat(path)  # its group may come from a setgid directory
        if (existing.st_uid, existing.st_gid) != (uid, gid):
            os.chown(path, uid, gid, follow_symlinks=False)
        if kind != _LINK:
            os.chmod(path, stat.S_IMODE(mode))
        for name, value in attributes:
            os.setxattr(path, name, value, follow_symlinks=False)
        times.append((path, accessed, modified))
    # In reverse, because creating entries changes the times of their directory.
    for path, accessed, modified in reversed(times):
        os.utime(path, ns=(accessed, modified), follow_symlinks=False)


def _remove(path: str, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _write(path: str, what: bytes | int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if isinstance(what, int):
            os.ftruncate(file, what)
            return
        view = memoryview(what)
        while view:
            view = view[os.write(file, view) :]
    finally:
        os.close(file)
