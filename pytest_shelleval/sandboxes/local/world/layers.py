"""The layers of a sandbox's file system, as descriptors of their directories.

Overlay keeps everything written in its own directories, above others that it never changes. The
sandbox's first process opened them while they had names, and reads them through the descriptors.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "user.overlay.opaque"


class Place:
    """One part of the root file system: its path, its writable layer and the layers below."""

    __slots__ = ("layers", "path", "upper")

    def __init__(self, path: str, upper: int, layers: Sequence[int] = ()) -> None:
        self.path = path
        """``/usr``; empty for the root itself."""
        self.upper = upper
        self.layers = layers
        """Directories, the uppermost first."""

    @classmethod
    def open(cls, path: str, upper: str, layers: str = "") -> Place:
        """Open the directories while they have names; *layers* as in overlay's lowerdir."""
        below = [os.open(layer, FOLDER) for layer in layers.split(":") if layer]
        return cls(path, os.open(upper, FOLDER), below)

    def has_below(self, relative: str) -> bool:
        """Whether a lower layer has an entry at *relative*, hidden or not."""
        return any(exists(relative, layer) for layer in self.layers)

    def below(self, relative: str) -> os.stat_result | None:
        """The entry of the lower layers at *relative*, as overlay merges them; None if none."""
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            try:
                status = os.stat(relative, dir_fd=layer, follow_symlinks=False)
            except OSError:
                folder = os.path.dirname(relative)
                while number < last and folder:
                    if opaque(folder, layer):
                        return None
                    folder = os.path.dirname(folder)
                continue
            return None if is_whiteout(status) else status
        return None


def is_whiteout(status: os.stat_result) -> bool:
    """Whether it marks an entry of the lower layers as deleted."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def opaque(name: str, layer: int) -> bool:
    """Whether the directory *name* hides the same directory of the lower layers."""
    try:
        folder = os.open(name, FOLDER, dir_fd=layer)
    except OSError:
        return False
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError:
        return False
    finally:
        os.close(folder)


def exists(relative: str, layer: int) -> bool:
    """Whether the directory *layer* has an entry at *relative*."""
    try:
        os.stat(relative, dir_fd=layer, follow_symlinks=False)
    except OSError:
        return False
    return True


def innermost_first(places: Iterable[Place]) -> list[Place]:
    """*places* in the order in which :func:`place_of` needs them."""
    return sorted(places, key=lambda place: -len(place.path))


def place_of(path: str, places: Iterable[Place]) -> tuple[Place, str] | None:
    """The one of *places*, innermost first, that contains *path*, and the path in its layers."""
    for place in places:
        if path.startswith(f"{place.path}/"):
            return place, path[len(place.path) + 1 :]
    return None
