"""The folder that the processes of one run share while it lasts, and those that killed runs left."""

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
    """A new folder in the temporary directory, the caller's until :meth:`remove` or its end."""

    def __init__(self, *folders: str) -> None:
        """Make it, with *folders* in it. Raises OSError."""
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        for name in folders:
            (self.path / name).mkdir()
        # under another name first: what has a lock's name and no lock is taken for left behind
        new = self.path / f"{_LOCK}.new"
        self._fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try_flock(self._fd)
        new.rename(self.path / _LOCK)
        # a child that was forked and not replaced would hold the lock on when we are gone
        os.register_at_fork(after_in_child=self._forget)

    def remove(self) -> None:
        """Remove the folder with all that is in it; may be repeated."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._forget()

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def left_behind() -> Iterator[Path]:
    """Folders of this user's runs that have ended without removing them, as on SIGKILL.

    Each is locked while the caller looks at it, so that several runs do not clean up together.
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
