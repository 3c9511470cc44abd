"""What commands did to a sandbox, as its first process sees it.

Overlay keeps everything written in its own directories: compared with the lower layers, they show what
was created, changed and deleted. Nothing is watched while commands run, so it costs nothing unless
somebody asks for the effects.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from pytest_shelleval.sandboxes.local.world.layers import FOLDER, Place, is_whiteout, opaque

WHITEOUT = "whiteout"
MOST_LISTED = 50
"""Paths listed per kind of effect; the rest is only counted."""
# More than the inodes that the default limit on disk allows.
_MOST_FOUND = 200_000
# Each level holds descriptors open, and Python's stack is finite.
_DEEPEST = 64
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def kind_of(status: os.stat_result) -> str:
    """``file``, ``directory``, ``link``, ``pipe``, ``socket`` or ``device``."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "other")


class Found:
    """One entry of a writable layer."""

    __slots__ = ("_below", "kind", "now", "path", "place")

    def __init__(self, place: Place, path: str, now: os.stat_result | None) -> None:
        self.place = place
        self.path = path
        self.now = now
        """None if it marks an entry of the lower layers as deleted."""
        self.kind = kind_of(now) if now is not None else WHITEOUT
        self._below: os.stat_result | bool | None = False

    @property
    def relative(self) -> str:
        """The path in its layers."""
        return self.path[len(self.place.path) + 1 :]

    @property
    def below(self) -> os.stat_result | None:
        """The entry of the lower layers at the same path; looked up on first use."""
        if self._below is False:
            self._below = self.place.below(self.relative)
        return self._below  # type: ignore[return-value]

    @property
    def stamp(self) -> tuple[object, ...]:
        """Differs from an earlier stamp if the entry was touched in between."""
        now = self.now
        if now is None:
            return (WHITEOUT,)
        if self.kind == "directory":  # its times and size change with its entries: ignored
            return now.st_ino, now.st_mode, now.st_uid, now.st_gid
        return now.st_ino, now.st_ctime_ns, now.st_size, now.st_mode

    @property
    def same_as_below(self) -> bool:
        """Whether it was only copied up, or is only an unchanged directory above another."""
        now, below = self.now, self.below
        if now is None or below is None or now.st_mode != below.st_mode:
            return False
        if (now.st_uid, now.st_gid) != (below.st_uid, below.st_gid):
            return False
        return self.kind == "directory" or (
            (now.st_size, now.st_mtime_ns) == (below.st_size, below.st_mtime_ns)
        )

    def hidden(self) -> Iterator[Found]:
        """Entries, as deleted, that a directory created again hides and does not replace."""
        below = self.below
        if self.kind != "directory" or below is None or not stat.S_ISDIR(below.st_mode):
            return
        if opaque(self.relative, self.place.upper):
            names: set[str] = set()
            for layer in (self.place.upper, *self.place.layers):
                try:
                    folder = os.open(self.relative, FOLDER, dir_fd=layer)
                except OSError:
                    continue
                try:
                    here = os.listdir(folder)
                finally:
                    os.close(folder)
                for name in here:
                    found = Found(self.place, f"{self.path}/{name}", None)
                    if layer != self.place.upper and name not in names and found.below is not None:
                        yield found
                names.update(here)


class Walk:
    """Everything in the writable layers at one moment."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.found: dict[str, Found] = {}
        self.whole = True
        """False when something was left out."""
        self.crowded = False
        """There was too much to look at all of it."""
        for place in places:
            self._folder(place, place.path, place.upper, _DEEPEST)

    def _folder(self, place: Place, path: str, upper: int, depth: int) -> None:
        with os.scandir(upper) as entries:
            for entry in entries:
                try:
                    now = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # deleted meanwhile
                if len(self.found) >= _MOST_FOUND:
                    self.whole, self.crowded = False, True
                    return
                name = f"{path}/{entry.name}"
                self.found[name] = Found(place, name, None if is_whiteout(now) else now)
                if not stat.S_ISDIR(now.st_mode):
                    continue
                if not depth:
                    self.whole = False
                    continue
                try:
                    inner = os.open(entry.name, FOLDER, dir_fd=upper)
                except OSError:
                    continue
                try:
                    self._folder(place, name, inner, depth - 1)
                finally:
                    os.close(inner)

    def add_hidden(self, mark: Mark) -> None:
        """Add the entries hidden by directories that were created again since the *mark*."""
        for path, found in list(self.found.items()):
            if found.kind == "directory" and mark.stamps.get(path) != found.stamp:
                for each in found.hidden():
                    self.found.setdefault(each.path, each)


class Mark(Walk):
    """The state of a sandbox after its setup."""

    def __init__(self, places: Sequence[Place] = ()) -> None:
        super().__init__(places)
        self.stamps = {path: found.stamp for path, found in self.found.items()}
        self.processes: dict[int, tuple[str, bytes]] = {}
        self.network = network() if places else (0, 0)


Entry = tuple[str, str, int]
"""Path, kind, size in bytes."""


def compare(walk: Walk, mark: Mark) -> dict[str, list[Entry]]:
    """Files created, changed and deleted since the *mark*, sorted by path."""
    created: list[Entry] = []
    changed: list[Entry] = []
    deleted: list[Entry] = []
    for path, found in walk.found.items():
        before = mark.stamps.get(path)
        if before is not None:
            if before == found.stamp:
                continue
            earlier = mark.found[path].now
        else:
            earlier = found.below
            if found.same_as_below:
                continue
        now = found.now
        if now is None:
            if earlier is not None:
                deleted.append((path, kind_of(earlier), earlier.st_size))
        else:
            (created if earlier is None else changed).append((path, found.kind, now.st_size))
    if walk.whole and mark.whole:
        # The setup's own files leave no trace in the layers when they are deleted.
        for path, found in mark.found.items():
            if path not in walk.found and found.now is not None:
                deleted.append((path, found.kind, found.now.st_size))
    return {"created": sorted(created), "changed": sorted(changed), "deleted": sorted(deleted)}


def processes(session: int = 0) -> Iterator[tuple[int, tuple[str, bytes]]]:
    """Id, and name and start, of every process except the first and the *session*'s shell."""
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (1, session):
            continue
        with contextlib.suppress(OSError, IndexError):
            with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                head, _, rest = file.read(1024).rpartition(b") ")
            fields = rest.split()
            if fields[0] not in (b"Z", b"X"):
                command = head.partition(b"(")[2].decode("utf-8", "backslashreplace")
                yield int(name), (command, fields[19])


def network() -> tuple[int, int]:
    """The kernel's IPv4 counters of this network namespace since its start.

    Attempts without a route, and datagrams to local ports where nobody listens: without a name
    server, lookups of names end there.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        file = os.open("/proc/self/net/snmp", os.O_RDONLY | os.O_CLOEXEC)
        try:
            lines = os.read(file, 8192).splitlines()
        finally:
            os.close(file)
        counted = [0, 0]
        for number, kind, name in ((0, b"Ip:", b"OutNoRoutes"), (1, b"Udp:", b"NoPorts")):
            names, values = (line.split() for line in lines if line.startswith(kind + b" "))
            counted[number] = int(values[names.index(name)])
        return counted[0], counted[1]
    return 0, 0


# --- encoding: records of four fields, each ended by NUL, which no path can contain


def pack(
    files: dict[str, list[Entry]],
    running: Sequence[str],
    traffic: tuple[int, int],
    whole: bool,
    start: str,
    tampered: Sequence[str] = (),
    removed: Sequence[str] = (),
) -> bytes:
    """The effects, encoded by a sandbox's first process; *start* is the start directory."""
    fields: list[object] = ["network", *traffic, ""]
    if not whole:
        fields += ["partial", "", "", ""]
    for name, entries in files.items():
        for path, kind, size in entries[:MOST_LISTED]:
            fields += [name, path, kind, size]
        outside = sum(1 for path, _, _ in entries if not f"{path}/".startswith(f"{start}/"))
        if entries:
            fields += ["count", name, len(entries), outside]
    for name, texts in (("processes", running), ("tampered", tampered), ("removed", removed)):
        for text in texts[:MOST_LISTED]:
            fields += [name, text, "", ""]
        if texts:
            fields += ["count", name, len(texts), 0]
    return "".join(f"{field}\0" for field in fields).encode("utf-8", "surrogateescape")


def unpack(message: bytes) -> dict[str, object]:
    """The decoded effects, for results; see :class:`pytest_shelleval.core.sandbox.Observant`."""
    files: dict[str, list[dict[str, object]]] = {"created": [], "changed": [], "deleted": []}
    names: dict[str, list[str]] = {"processes": [], "tampered": [], "removed": []}
    more: dict[str, int] = {}
    outside, unreachable, lookups, partial = 0, 0, 0, False
    fields = message.decode("utf-8", "backslashreplace").split("\0")
    for tag, one, two, three in zip(*(iter(fields[:-1]),) * 4, strict=False):
        if tag in files:
            files[tag].append({"path": one, "kind": two, "size": int(three)})
        elif tag in names:
            names[tag].append(one)
        elif tag == "count":
            outside += int(three)
            left_out = int(two) - len(files[one] if one in files else names[one])
            if left_out > 0:
                more[one] = left_out
        elif tag == "network":
            unreachable, lookups = int(one), int(two)
        elif tag == "partial":
            partial = True
    return {
        **files,
        "more": more,
        "outside": outside,
        "processes": names["processes"],
        "network": {"unreachable": unreachable, "lookups": lookups},
        "tampered": names["tampered"],
        "removed": names["removed"],
        "partial": partial,
    }
