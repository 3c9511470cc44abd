"""One run per output folder: a lock that ends with its process, however that ends.

It is :func:`fcntl.flock` on a file in the folder. On NFS, Linux makes it a lock of the server, so that
it works between machines too, unless the mount has the option ``nolock`` or ``local_lock``. Without
that call, or on a file system without locks, nothing prevents two runs in one folder.
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
    """The right to write in a folder, held by one process at a time, until :meth:`release`."""

    def __init__(self, folder: Path, command: Sequence[str], *, file: str | None = None) -> None:
        """Lock *folder*, created if needed; *command* tells others who holds it.

        With *file*, lock only that file in it. Raises UserError that names the holder, or says why
        the folder can't be written.
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
        # a forked child that never calls exec would hold the lock after this process has ended
        os.register_at_fork(after_in_child=self._forget)

    def release(self) -> None:
        """Unlock; remove the lock file, and the folders made for it if empty. May be repeated."""
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            self.path.unlink()
        self._forget()
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # not empty: it is in use now
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
            # the previous holder removes the file before it unlocks
            with contextlib.suppress(FileNotFoundError):
                status = os.fstat(self._fd)
                if os.path.samestat(status, os.lstat(self.path)):
                    if status.st_nlink > 1:  # truncating it would empty the other file too
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

    True also if the system has no locks. Raises OSError.
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
