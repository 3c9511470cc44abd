"""The ids of a sandbox's root on the host: enters a user namespace whose ids mean nothing there.

As the host's root, or with newuidmap, a whole range of ids is mapped, so that accounts can be created
and changed inside; otherwise only root.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from pytest_shelleval.sandboxes.local.world.namespaces import (
    CLONE_NEWUSER,
    clone_mount,
    set_dumpable,
    setns,
    unshare,
)

_RANGE = 65536
# Far above the ids of accounts, containers and systemd, with room for one range per zygote: the kernel
# counts some things, such as the pages in pipes, per id.
_FIRST, _PLACES = 0x60000000, 4096
_NOBODY = 65534
_HELPERS = ("/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin")


class StageError(Exception):
    """Building the sandbox failed at a stage that the user may be able to fix."""

    def __init__(self, stage: str, cause: OSError) -> None:
        super().__init__(f"{stage}: {cause.strerror or cause}")
        self.stage = stage
        self.errno = cause.errno or 0


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Name the stage in which an OSError happens."""
    try:
        yield
    except OSError as error:
        raise StageError(name, error) from error


class Identity:
    """The chosen mapping of ids, and mounts whose files belong to the sandbox's root."""

    __slots__ = ("ids", "mapped", "mode")

    def __init__(self, mode: str, ids: int, mapped: dict[str, int]) -> None:
        self.mode = mode
        """``root``, ``subuid`` or ``single``."""
        self.ids = ids
        """How many user and group ids exist inside."""
        self.mapped = mapped
        """Detached mounts by path."""

    @property
    def same_ids(self) -> bytes:
        """An id map for a nested namespace with the same ids; no line may span two of the outer map."""
        if self.mode == "subuid":
            return b"0 0 1\n1 1 %d" % (self.ids - 1)
        return b"0 0 %d" % self.ids


def enter(paths: list[str]) -> Identity:
    """Become root of a new user namespace, who owns the files at *paths* if the kernel can do it."""
    uid, gid = os.geteuid(), os.getegid()
    release, wait = os.pipe(), os.pipe()
    helper = os.fork()
    if not helper:
        _hold_namespace(wait[1], release[0], release[1])
    os.close(wait[1])
    os.close(release[0])
    try:
        with os.fdopen(wait[0], "rb") as answer:
            number = int(answer.read() or str(errno.EIO))
        with stage("user namespace"):
            if number:
                raise OSError(number, os.strerror(number))
        with stage("id map"):
            mode, ids = _write_maps(helper, uid, gid)
        namespace = os.open(f"/proc/{helper}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        mapped = _map_programs(namespace, paths) if mode == "root" else {}
        with stage("user namespace"):
            setns(namespace, CLONE_NEWUSER)
            os.close(namespace)
            os.setresgid(0, 0, 0)
            if ids > 1:
                os.setgroups([])
            os.setresuid(0, 0, 0)
        # Changing ids made this process not dumpable: it could not read its own /proc entries.
        set_dumpable(True)
        return Identity(mode, ids, mapped)
    finally:
        os.close(release[1])
        os.waitpid(helper, 0)


def _hold_namespace(answer: int, until: int, other_end: int) -> None:
    """In the helper: create the namespace and keep it until the zygote is in it."""
    try:
        os.close(other_end)
        number = 0
        try:
            unshare(CLONE_NEWUSER)
        except OSError as error:
            number = error.errno or errno.EIO
        os.write(answer, str(number).encode())
        os.close(answer)
        os.read(until, 1)
    finally:
        os._exit(0)


def _write_maps(helper: int, uid: int, gid: int) -> tuple[str, int]:
    if uid == 0:
        for first, count in _ranges_for_root():
            with contextlib.suppress(OSError):
                _write_map(helper, f"0 {first} {count}", f"0 {first} {count}")
                return "root", count
        raise OSError(errno.EPERM, "no unprivileged id can be mapped")
    mapped = _map_subordinate_ids(helper, uid, gid)
    if mapped:
        return "subuid", mapped
    with open(f"/proc/{helper}/setgroups", "wb", buffering=0) as file:
        file.write(b"deny")
    _write_map(helper, f"0 {uid} 1", f"0 {gid} 1")
    return "single", 1


def _write_map(process: int, uids: str, gids: str) -> None:
    for name, line in (("uid_map", uids), ("gid_map", gids)):
        with open(f"/proc/{process}/{name}", "wb", buffering=0) as file:
            file.write(line.encode())


def _extents(path: str) -> list[tuple[int, int]]:
    with open(path, "rb") as file:
        return [(int(first), int(count)) for first, _, count in map(bytes.split, file)]


def _ranges_for_root() -> Iterator[tuple[int, int]]:
    """Ranges of ids that the host does not use, the best first."""
    both = _extents("/proc/self/uid_map"), _extents("/proc/self/gid_map")

    def covered(first: int, count: int) -> bool:
        return all(
            any(start <= first and first + count <= start + size for start, size in extents)
            for extents in both
        )

    first = _FIRST + _RANGE * (os.getpid() % _PLACES)
    if covered(first, _RANGE):
        yield first, _RANGE
    # Root of a container with few ids: ranges that ordinary accounts leave free.
    for first, count in ((20000, 40000), (10000, 20000)):
        if covered(first, count):
            yield first, count
    if covered(_NOBODY, 1):
        yield _NOBODY, 1


def _map_subordinate_ids(helper: int, uid: int, gid: int) -> int:
    """Map the ids granted by /etc/subuid and /etc/subgid with newuidmap and newgidmap; 0 if it fails."""
    tools = [_find(name) for name in ("newuidmap", "newgidmap")]
    ranges = [
        granted for path in ("/etc/subuid", "/etc/subgid") if (granted := _granted(path, uid))
    ]
    if not all(tools) or len(ranges) < 2:
        return 0
    count = min(_RANGE - 1, *(size for _, size in ranges))
    for tool, own, (first, _) in zip(tools, (uid, gid), ranges, strict=True):
        arguments = [tool, str(helper), "0", str(own), "1", "1", str(first), str(count)]
        process = os.posix_spawn(tool, arguments, {})
        if os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
            return 0
    return count + 1


def _find(name: str) -> str:
    for folder in _HELPERS:
        if os.access(f"{folder}/{name}", os.X_OK):
            return f"{folder}/{name}"
    return ""


def _granted(path: str, uid: int) -> tuple[int, int] | None:
    import pwd

    names = {str(uid)}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(uid).pw_name)
    best = (0, 0)
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, rest = line.strip().partition(":")
            first, _, count = rest.partition(":")
            if name in names and first.isdigit() and count.isdigit() and int(count) > best[1]:
                best = int(first), int(count)
    return best if best[1] else None


def _map_programs(namespace: int, paths: list[str]) -> dict[str, int]:
    """The host's programs as files of the sandbox's root, if the kernel can do it.

    Not /usr/local: files there that only root may read can be secrets of the host.
    """
    mapped: dict[str, int] = {}
    for path in paths:
        try:
            mapped[path] = clone_mount(path, user_namespace=namespace)
        except OSError:
            # Owners stay unmapped inside, but mounts below it are left out.
            with contextlib.suppress(OSError):
                mapped[path] = clone_mount(path)
    return mapped
