"""Files that stay valid if the process is killed: JSON Lines, one write per line; atomic replacement."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pytest_shelleval.core.errors import UserError

_SHOWN_FAULTS = 20
_BLOCK = 8192
_MOST_LINKS = 40


def dump_line(record: Mapping[str, Any]) -> bytes:
    """*record* as one line of JSON in UTF-8, newline included.

    A lone surrogate, which UTF-8 can't hold, makes the whole line ASCII with ``\\uXXXX`` escapes.
    """
    try:
        return (json.dumps(record, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(record) + "\n").encode()


def open_own(path: Path, flags: int, mode: int = 0o644) -> int:
    """:func:`os.open` for a file of our own in a folder that others may write to; raises OSError.

    An existing file is not truncated, and a link is not followed: somebody may have put it there to
    make us change a file elsewhere.
    """
    try:
        # O_NONBLOCK: do not wait if it is a pipe
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link; remove it") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file; remove it")
    return descriptor


def follow_own(path: Path) -> Path:
    """The target of *path* by this user's symbolic links; those of other users are not followed.

    Raises OSError for a loop.
    """
    for _ in range(_MOST_LINKS):
        try:
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return path
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISLNK(status.st_mode) or status.st_uid != os.geteuid():
                return path
            path = path.parent / os.readlink("", dir_fd=descriptor)
        finally:
            os.close(descriptor)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


class JsonLinesWriter:
    """Appends records to a file, each in one write call, so that the file is valid at any time.

    First removes an incomplete last line, left by a killed process. Creates the folder if needed.
    *path* must not be a symbolic link, but with *follow* may be one of this user's. Raises UserError
    when the file can't be written.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = follow_own(path) if follow else path
            self._fd = open_own(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise UserError(f"can't write {path}: {error.strerror}") from error
        _cut_broken_tail(self._fd)

    def write(self, record: Mapping[str, Any]) -> int:
        """Append *record*; returns the byte at which its line starts.

        Raises UserError when the disk is full, and leaves no half line behind.
        """
        line = dump_line(record)
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            while written < len(line):  # only a full disk or a signal cuts a write short
                written += os.write(self._fd, line[written:])
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise UserError(f"can't write {self.path}: {error.strerror}") from error
        return size

    def close(self) -> None:
        """Close the file; may be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> JsonLinesWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class JsonLinesReader:
    """Reads single lines of a file by offset. Raises UserError when it can't be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"can't read {path}: {error.strerror}") from error

    def read(self, offset: int) -> dict[str, Any]:
        """The object of the line that starts at byte *offset*."""
        try:
            text = block = os.pread(self._fd, _BLOCK, offset)
            while block and b"\n" not in block:
                block = os.pread(self._fd, max(_BLOCK, len(text)), offset + len(text))
                text += block
            record: dict[str, Any] = json.loads(text.partition(b"\n")[0])
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"can't read {self.path}: {error}") from error
        return record

    def close(self) -> None:
        """Close the file; may be repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _cut_broken_tail(fd: int) -> None:
    """Drop a last line that has no newline; if it is complete JSON, add the newline instead."""
    size = os.fstat(fd).st_size
    end, tail = size, b""
    while end > 0 and b"\n" not in tail:
        start = max(0, end - 65536)
        tail = os.pread(fd, end - start, start) + tail
        end = start
    tail = tail[tail.rfind(b"\n") + 1 :]
    if not tail:
        return
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        os.ftruncate(fd, size - len(tail))
    else:
        os.write(fd, b"\n")


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and object of each line; skips blank lines and an incomplete last line.

    Raises UserError naming the file and every broken line (the first 20 of them), after yielding
    all good ones.
    """
    return ((number, record) for number, _, record in locate_json_lines(path))


def locate_json_lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Like :func:`read_json_lines`, with the byte offset of each line after its number."""
    faults: list[str] = []
    start = end = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                start, end = end, end + len(line)
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    if line.endswith(b"\n"):
                        faults.append(f"{path}:{number}: not JSON: {error}")
                    continue
                if not isinstance(record, dict):
                    faults.append(f"{path}:{number}: a JSON object is expected on every line")
                    continue
                yield number, start, record
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from error
    if faults:
        raise UserError(list_faults(faults))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on the file *path*; waits while another process has it.

    The lock ends with its process, however that ends.
    """
    import fcntl  # not on every system that imports this module

    descriptor = open_own(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def list_faults(faults: list[str]) -> str:
    """*faults*, one a line, the first 20 of them with a count of the rest."""
    shown = faults[:_SHOWN_FAULTS]
    if len(faults) > len(shown):
        shown.append(f"... and {len(faults) - len(shown)} more")
    return "\n".join(shown)


def replace_file(path: Path, text: str) -> None:
    """Write *text* to *path* atomically: readers see either the old or the new file, complete.

    Raises UserError when it can't be written.
    """
    replace_file_by(path, [text.encode()])


def replace_file_by(path: Path, parts: Iterable[bytes]) -> None:
    """Like :func:`replace_file`, with the concatenation of *parts*; holds one in memory at a time."""
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(fd, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
