"""One run per output folder: a lock that goes with its process, however that ends.

It is :func:`fcntl.flock` on a file in the folder. On NFS Linux turns it into a lock of the server, so
that it holds between machines too, unless the mount says ``nolock`` or ``local_lock``. Where there is
no such call, or the file system knows no locks, runs are not kept apart.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_shelleval.core.clock import now
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import open_own
from pytest_shelleval.core.redaction import redacted

LOCK = ".shelleval.lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class FolderLock:
    """The right to write in a folder, held by one process at a time; made, then released."""

    def __init__(self, folder: Path, command: Sequence[str], *, file: str | None = None) -> None:
        """Lock *folder*, which is made if it is not there; *command* tells others who holds it.

        With *file* only that file in it. Raises UserError that names the holder, or says why the
        folder can't be written.
        """
        self.path = folder / (LOCK if file is None else f".{file}.lock")
        self._held = folder if file is None else folder / file
        self._fd = -1
        self._made: list[Path] = []
        try:
            self._make(folder)
            self._lock()
            facts = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "start_time": now(),
                "command": list(map(redacted, command)),
            }
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(facts).encode(), 0)
        except OSError as error:
            self.release()
            raise UserError(f"can't write {self.path}: {error.strerror}") from error
        # a child that was forked and not replaced would hold the lock on when we are gone
        os.register_at_fork(after_in_child=self._forget)

    def release(self) -> None:
        """Unlock, and leave nothing behind that the lock brought; may be repeated."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._forget()
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # it is in use now
                folder.rmdir()

    def _make(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            with contextlib.suppress(FileExistsError):
                each.mkdir()
                self._made.append(each)

    def _lock(self) -> None:
        while True:
            self._fd = open_own(self.path, os.O_RDWR | os.O_CREAT)
            if not try_flock(self._fd):
                self._forget()
                raise UserError(_refusal(self._held, self.path)) from None
            # whoever held it before takes the file away before letting go of it
            with contextlib.suppress(FileNotFoundError):
                status = os.fstat(self._fd)
                if os.path.samestat(status, os.lstat(self.path)):
                    if status.st_nlink > 1:  # it would be emptied under its other name too
                        self._forget()
                        raise OSError(errno.EMLINK, "it is a hard link to another file; remove it")
                    return
            self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def try_flock(fd: int) -> bool:
    """Lock the open file *fd*; False where another process has it.

    True also where there are no locks. Raises OSError.
    """
    try:
        import fcntl  # not on every system
    except ImportError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _refusal(held: Path, path: Path) -> str:
    found: Any = None
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        found = {}
    who = f": pid {found['pid']} on {found['host']}" if {"pid", "host"} <= found.keys() else ""
    since = f", since {found['start_time']}" if found.get("start_time") else ""
    command = " ".join(map(str, found.get("command") or ()))
    return (
        f"{held} is in use by another run{who}{since}"
        + (f"\n  {command}" if command else "")
        + "\nWait until it has ended, or choose another"
    )
