"""Detects that a command changed the programs that its success condition may use.

A condition trusts the tools of the system: a ``grep`` that always succeeds would forge a verdict.
Only content is compared, with the lower layers: commands may change owners and modes, and add
programs with new names.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from pytest_shelleval.sandboxes.local.inside.effects import Found, Walk
from pytest_shelleval.sandboxes.local.world.layers import Place, innermost_first, place_of

SEARCHED = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""The folders of the shells' PATH, in order."""
TOO_MANY = "/ (more changes than can be looked through)"
_MAY_MATTER = ("/usr/", "/bin", "/sbin", "/lib", "/etc/ld.so.", "/etc/alternatives/")
_PROGRAMS = ("/bin/", "/sbin/", "/lib")
_PRELOAD, _CACHE = "/etc/ld.so.preload", "/etc/ld.so.cache"
_ALTERNATIVES = "/etc/alternatives"
# Links for interactive use; no condition depends on them.
_FOR_PEOPLE = frozenset(("editor", "ex", "pager", "rview", "vi", "view", "vim", "vimdiff"))
# A system's sh may be any of these.
_SHELLS = frozenset(("bash", "dash"))
# Python runs these before any program of its own.
_PYTHON_START = ("sitecustomize.py", "usercustomize.py")
_PYC_HEADER = 16


class Tampering:
    """The tampering that a walk found."""

    def __init__(self, walk: Walk, places: Sequence[Place]) -> None:
        self._places = innermost_first(places)
        self._libraries: frozenset[bytes] | None = None
        self.tampered: list[str] = []
        """Programs and libraries that were changed, or that hide existing ones."""
        self.removed: list[str] = []
        """Programs that were removed."""
        for path, found in walk.found.items():
            if path.startswith(_MAY_MATTER):
                self._judge(path, found)
        if walk.crowded:
            self.tampered.append(TOO_MANY)
        self.tampered.sort()
        self.removed.sort()

    def _judge(self, path: str, found: Found) -> None:
        folder, _, name = path.rpartition("/")
        if not folder or path.startswith("/etc/"):
            bad = self._in_etc(path, name, found) if folder else self._differs(path, found)
        elif not path.removeprefix("/usr").removeprefix("/local").startswith(_PROGRAMS):
            return
        elif found.now is None:
            if folder in SEARCHED:
                self.removed.append(path)
                return
            bad = found.below is not None and ".so" in name
        elif found.below is not None:
            bad = self._differs(path, found)
        else:
            bad = self._hides(folder, name, found)
        if bad:
            self.tampered.append(path)

    def _in_etc(self, path: str, name: str, found: Found) -> bool:
        if path == _PRELOAD:
            return found.now is not None and found.now.st_size > 0
        if path == _CACHE:
            return found.now is not None and self._leads_astray(found)
        return (
            path.startswith(f"{_ALTERNATIVES}/")
            and name not in _FOR_PEOPLE
            and found.below is not None
            and any(self._pristine(f"{folder}/{name}") for folder in SEARCHED)
            and self._differs(path, found)
        )

    def _differs(self, path: str, found: Found) -> bool:
        """Whether an entry of the lower layers was replaced by a different one."""
        now, below = found.now, found.below
        if below is None:
            return False
        if now is None or stat.S_IFMT(now.st_mode) != stat.S_IFMT(below.st_mode):
            return not self._is_shell(path, found)
        if stat.S_ISDIR(now.st_mode):
            return False
        if stat.S_ISLNK(now.st_mode):
            return self._link(path, found) != self._link(path, found, lower=True) and not (
                self._is_shell(path, found)
            )
        if now.st_size != below.st_size:
            return True
        # Python rewrites these when their header does not match the source's time.
        start = _PYC_HEADER if path.endswith(".pyc") else 0
        one, other = self._read(path, found), self._read(path, found, lower=True)
        return one is None or other is None or one[start:] != other[start:]

    def _is_shell(self, path: str, found: Found) -> bool:
        target = self._link(path, found)
        folder, _, name = target.rpartition("/")
        return (
            path in ("/bin/sh", "/usr/bin/sh")
            and name in _SHELLS
            and folder in ("", "/bin", "/usr/bin")
        )

    def _hides(self, folder: str, name: str, found: Found) -> bool:
        """Whether a new entry is found before an existing program or library of the same name."""
        now = found.now
        if now is None or found.kind == "directory":
            return False
        if name in _PYTHON_START:
            return True
        if folder in SEARCHED:
            runs = stat.S_ISLNK(now.st_mode) or bool(now.st_mode & 0o111)
            after = SEARCHED[SEARCHED.index(folder) :]
            return runs and any(self._pristine(f"{each}/{name}") for each in after)
        return ".so" in name and os.fsencode(name) in self._known_libraries()

    # --- files, through the descriptors of the layers

    def _pristine(self, path: str) -> bool:
        """Whether the layers below have *path*."""
        found = place_of(path, self._places)
        return found is not None and found[0].has_below(found[1])

    def _directories(self, found: Found, lower: bool) -> Sequence[int]:
        return found.place.layers if lower else (found.place.upper,)

    def _link(self, path: str, found: Found, lower: bool = False) -> str:
        for folder in self._directories(found, lower):
            with contextlib.suppress(OSError):
                return os.readlink(path[len(found.place.path) + 1 :], dir_fd=folder)
        return ""

    def _read(self, path: str, found: Found, lower: bool = False) -> bytes | None:
        for folder in self._directories(found, lower):
            with contextlib.suppress(OSError):
                file = os.open(
                    path[len(found.place.path) + 1 :],
                    os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                    dir_fd=folder,
                )
                with os.fdopen(file, "rb", buffering=0) as opened:
                    return opened.read()
        return None

    def _known_libraries(self) -> frozenset[bytes]:
        """The names of libraries in the loader's cache."""
        if self._libraries is None:
            root = self._places[-1]
            content = self._read(_CACHE, Found(root, _CACHE, None), lower=True) or b""
            self._libraries = frozenset(
                text.rpartition(b"/")[2] for text in content.split(b"\0") if b".so" in text
            )
        return self._libraries

    def _leads_astray(self, found: Found) -> bool:
        """Whether the loader's cache has a known library at a new path."""
        before = set((self._read(_CACHE, found, lower=True) or b"").split(b"\0"))
        known = self._known_libraries()
        return any(
            text.startswith(b"/") and text not in before and text.rpartition(b"/")[2] in known
            for text in (self._read(_CACHE, found) or b"").split(b"\0")
        )
