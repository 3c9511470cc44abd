"""The folder that the workers of one run share on a machine that is not the controller's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import open_own

_USERS = "users"


class SharedFolder:
    """Made by the first worker that comes, removed by the last that goes.

    A lock on a file in it says who is there, so that what killed workers leave is known for what it
    is: the next run on the machine removes it.
    """

    def __init__(self, run: str, clean_up: Callable[[Path], None] = lambda _: None) -> None:
        """The folder of *run*; *clean_up* is called with each folder before it is removed.

        Raises UserError where it can't be made, or is another user's.
        """
        self._clean_up = clean_up
        place = Path(tempfile.gettempdir())
        prefix = f"shelleval-{os.geteuid()}-"
        self.path = place / (prefix + re.sub(r"[^\w.-]", "_", run))
        try:
            for other in place.glob(f"{prefix}*"):
                self._remove_left(other)
            self._users = self._enter()
            # a child that was forked and not replaced would seem to be there when we are gone
            os.register_at_fork(after_in_child=self._forget)
            for name in ("snapshots", "verdicts", "files"):
                (self.path / name).mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"can't make a temporary folder: {error}") from error

    def _enter(self) -> int:
        while True:
            self.path.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(self.path):
                raise UserError(f"{self.path} is another user's")
            # whoever leaves may remove it between any two of these steps
            with contextlib.suppress(FileNotFoundError):
                users = open_own(self.path / _USERS, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(users, fcntl.LOCK_SH)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(users), os.stat(self.path / _USERS)):
                        return users
                os.close(users)

    def leave(self) -> None:
        """Go, and remove the folder if nobody else is there; may be repeated."""
        if self._users >= 0:
            self._remove(self.path, self._users)
        self._forget()

    def _forget(self) -> None:
        if self._users >= 0:
            os.close(self._users)
            self._users = -1

    def _remove_left(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            # what another user has left there could name servers to send this user's token to
            if path == self.path or not _is_ours(path):
                return
            users = os.open(path / _USERS, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                self._remove(path, users)
            finally:
                os.close(users)

    def _remove(self, path: Path, users: int) -> None:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._clean_up(path)
            shutil.rmtree(path, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
