"""The root file system of a sandbox: the host's programs below, the sandbox's own files above.

The zygote makes the lower layers once (:func:`prepare`); each sandbox stacks an empty, bounded
writable layer on them (:func:`assemble`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping

from pytest_shelleval.sandboxes.defaults import START_DIRECTORY
from pytest_shelleval.sandboxes.local.protocol import SCRIPT_LINK, SCRIPT_TARGET
from pytest_shelleval.sandboxes.local.world import etc, processors
from pytest_shelleval.sandboxes.local.world.layers import Place
from pytest_shelleval.sandboxes.local.world.namespaces import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    attach_mount,
    clone_mount,
    mount,
    pivot_root,
)

HOME = START_DIRECTORY
_LOCAL = "/usr/local"
_PROGRAM_TREES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DIRECTORIES: tuple[tuple[str, int], ...] = (
    ("boot", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/shellm", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("run/lock", 0o1777),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/backups", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/lib/dpkg", 0o755),
    ("var/lib/dpkg/alternatives", 0o755),
    ("var/lib/dpkg/info", 0o755),
    ("var/lib/dpkg/updates", 0o755),
    ("var/local", 0o2775),
    ("var/log", 0o755),
    ("var/mail", 0o2775),
    ("var/opt", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
)
# Directories that every sandbox needs, whatever the image.
_NEEDED = frozenset(("dev", "etc", "home", "home/shellm", "proc", "root", "sys", "tmp"))
_LINKS = (("var/run", "/run"), ("var/lock", "/run/lock"), ("var/spool/mail", "../mail"))


class Tree:
    """One part of the root file system that gets its own writable layer."""

    __slots__ = ("layers", "path", "writable")

    def __init__(self, path: str, layers: str, writable: bool = True) -> None:
        self.path = path
        """Its path in the sandbox, without the leading slash."""
        self.layers = layers
        """Overlay's lowerdir, the uppermost first; or, if not writable, one tree."""
        self.writable = writable


def host_trees() -> list[str]:
    """The folders of the host's programs: /usr, and those like /bin that are no links."""
    return [path for path in _PROGRAM_TREES if os.path.isdir(path) and not os.path.islink(path)]


def prepare(mapped: Mapping[str, int], image: str = "") -> list[Tree]:
    """In a new mount namespace, make a root with the layers, and enter it.

    *mapped* has detached mounts whose owners are those of the sandbox, by path on the host.
    With an *image*, a folder, only that is visible of the host.
    """
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    tree = None
    if image:
        # First, because the new root is mounted over /tmp, where the image may be.
        tree = mapped[image] if image in mapped else clone_mount(image)
    base = next(path for path in ("/tmp", "/run", "/mnt", "/var") if os.path.isdir(path))
    mount("tmpfs", base, "tmpfs", MS_NOSUID, "mode=755,size=64m,nr_inodes=32k")
    for name in ("proc", "dev", "layers", "host", "writable", "new"):
        os.mkdir(f"{base}/{name}")
    # A sandbox may mount its own /proc only if a complete one is visible.
    mount("/proc", f"{base}/proc", None, MS_BIND | MS_REC)
    _make_devices(f"{base}/dev")
    os.mkdir(f"{base}/layers/root")
    if tree is not None:
        trees = [_show_image(base, tree)]
        pivot_root(base)
        return trees
    _make_skeleton(f"{base}/layers/root")
    trees = [Tree("", "/layers/root")]
    paths = host_trees()
    if os.path.isdir(_LOCAL) and not os.path.islink(_LOCAL):
        paths.append(_LOCAL)
    for path in paths:
        trees += _show(base, path, mapped.get(path))
    pivot_root(base)
    return trees


def _show_image(base: str, image: int) -> Tree:
    """The image, and above it the files that a container engine adds."""
    source, skeleton = f"{base}/host/image", f"{base}/layers/root"
    os.mkdir(source)
    attach_mount(image, source)
    for path, mode in _DIRECTORIES:
        if path in _NEEDED:
            made = f"{skeleton}/{path}"
            status = None
            with contextlib.suppress(OSError):
                status = os.stat(f"{source}/{path}", follow_symlinks=False)
            if status is not None and not stat.S_ISDIR(status.st_mode):
                continue
            os.mkdir(made)
            os.chmod(made, mode if status is None else stat.S_IMODE(status.st_mode))
    etc.make_names(f"{skeleton}/etc")
    return Tree("", "/layers/root:/host/image")


def _show(base: str, path: str, mapped: int | None, depth: int = 1) -> list[Tree]:
    """Mount one tree of the host in the zygote's root, with writable directories above it."""
    name = path.strip("/").replace("/", "_")
    skeleton, source = f"{base}/layers/{name}", f"{base}/host/{name}"
    os.mkdir(source)
    if mapped is not None:
        attach_mount(mapped, source)
    else:
        try:
            mount(path, source, None, MS_BIND)
        except OSError:
            # Something is mounted below it, which an ordinary user may not uncover: the tree is
            # read-only, except for its folders that have no mounts below.
            mount(path, source, None, MS_BIND | MS_REC)
            trees = [Tree(path[1:], f"/host/{name}", writable=False)]
            with os.scandir(path) as entries:
                for entry in entries:
                    if depth and entry.path != _LOCAL and entry.is_dir(follow_symlinks=False):
                        trees += _show(base, entry.path, None, depth - 1)
            return trees
    os.mkdir(skeleton)
    # If the host's files belong to nobody inside, only the directories above them are writable.
    _mirror_directories(path, skeleton, depth=2 if mapped is not None else 3)
    return [Tree(path[1:], f"/layers/{name}:/host/{name}")]


def _mirror_directories(source: str, target: str, depth: int) -> None:
    """Copy only directories: those above the host's decide who may write in the merged ones."""
    with os.scandir(source) as entries:
        for entry in entries:
            try:
                if not entry.is_dir(follow_symlinks=False):
                    continue
                mode = stat.S_IMODE(entry.stat(follow_symlinks=False).st_mode)
                if mode & 0o5 != 0o5:
                    continue
                copy = f"{target}/{entry.name}"
                os.mkdir(copy, mode)
                if entry.path == _LOCAL:
                    # The host's files there are shown only by their own layer.
                    with contextlib.suppress(OSError):
                        os.setxattr(copy, "user.overlay.opaque", b"y")
                elif depth > 1:
                    _mirror_directories(entry.path, copy, depth - 1)
            except OSError:
                continue


def _make_devices(target: str) -> None:
    mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k,nr_inodes=64")
    for name in _DEVICES:
        os.close(os.open(f"{target}/{name}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
        mount(f"/dev/{name}", f"{target}/{name}", None, MS_BIND)
    for name, to in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ):
        os.symlink(to, f"{target}/{name}")
    os.mkdir(f"{target}/pts", 0o755)
    os.mkdir(f"{target}/shm", 0o755)
    mount(None, target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC)


def _make_skeleton(root: str) -> None:
    for path, mode in _DIRECTORIES:
        os.mkdir(f"{root}/{path}")
        os.chmod(f"{root}/{path}", mode)
    for path, to in _LINKS:
        os.symlink(to, f"{root}/{path}")
    for name in ("status", "available"):
        open(f"{root}/var/lib/dpkg/{name}", "wb").close()
    for path in _PROGRAM_TREES[1:]:
        if os.path.islink(path):
            os.symlink(os.readlink(path), f"{root}{path}")
        elif os.path.isdir(path):
            os.mkdir(f"{root}{path}", 0o755)
    etc.make(f"{root}/etc")
    processors.make(root)


def assemble(trees: list[Tree], disk: int) -> list[Place]:
    """In the sandbox's own mount namespace, stack its root file system and enter it.

    Everything writable shares one tmpfs of *disk* bytes. Returns the places, which give access to
    the writable layer and the lower layers separately.
    """
    places = []
    inodes = max(4096, disk // 4096)
    mount("tmpfs", "/writable", "tmpfs", MS_NODEV, f"mode=755,size={disk},nr_inodes={inodes}")
    # HOME, which most commands need, costs almost nothing here, unlike through the overlay.
    os.mkdir("/writable/0", 0o755)
    os.mkdir("/writable/0/home", 0o755)
    os.mkdir(f"/writable/0{HOME}", 0o755)
    os.symlink(SCRIPT_TARGET, f"/writable/0{HOME}/{SCRIPT_LINK}")
    for number, tree in enumerate(trees):
        target = f"/new/{tree.path}"
        if not tree.writable:
            mount(tree.layers, target, None, MS_BIND | MS_REC)
            continue
        upper, work = f"/writable/{number}", f"/writable/{number}w"
        if number:
            os.mkdir(upper, 0o755)
        os.mkdir(work, 0o755)
        mount(
            "overlay",
            target,
            "overlay",
            MS_NODEV,
            f"lowerdir={tree.layers},upperdir={upper},workdir={work},userxattr",
        )
        places.append(Place.open(f"/{tree.path}".rstrip("/"), upper, tree.layers))
    mount("/dev", "/new/dev", None, MS_BIND | MS_REC)
    mount("devpts", "/new/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "ptmxmode=666,mode=620")
    os.mkdir("/writable/shm")
    os.chmod("/writable/shm", 0o1777)
    mount("/writable/shm", "/new/dev/shm", None, MS_BIND)
    places.append(Place.open("/dev/shm", "/writable/shm"))
    mount("proc", "/new/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # Hides the host's boot parameters; other secrets in /proc are readable only by the host's root.
    mount("/dev/null", "/new/proc/cmdline", None, MS_BIND)
    pivot_root("/new")
    return places
