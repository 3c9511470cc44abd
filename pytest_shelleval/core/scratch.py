"""The temporary folder that the processes of one run share, and leftovers of killed runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pytest_shelleval.core.lock import try_flock

_PREFIX = "shelleval-run-"
_LOCK = ".lock"


class Scratch:
    """A new folder in the temporary directory, locked until :meth:`remove` or the process ends."""

    def __init__(self, *folders: str) -> None:
        """Create it, with *folders* in it. Raises OSError."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        for name in folders:
            (self.path / name).mkdir()
        # under another name first: a lock file without a lock counts as a leftover
        new = self.path / f"{_LOCK}.new"
        self._fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try_flock(self._fd)
        new.rename(self.path / _LOCK)
        # a forked child that never calls exec would hold the lock after this process has ended
        os.register_at_fork(after_in_child=self._forget)

    def remove(self) -> None:
        """Remove the folder and its content; may be repeated."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def left_behind() -> Iterator[Path]:
    """Folders that this user's ended runs did not remove, as after SIGKILL.

    Each is locked while the caller uses it, so that two runs do not clean up the same one.
    """
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                if try_flock(fd):
                    yield folder
            finally:
                os.close(fd)
