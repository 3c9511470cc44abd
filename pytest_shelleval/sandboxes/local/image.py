"""A root file system of the user's choice: a folder, or the tar that ``docker export`` writes.

This is the client's side; :mod:`rootfs` stacks the sandbox on what is made here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
from pathlib import Path

from pytest_shelleval.core.errors import SandboxUnavailable

_DEEPEST_LINKS = 8


def folder_of(path: Path) -> Path:
    """The folder to run on: *path* itself, or where its tar is unpacked, once and for all.

    Raises SandboxUnavailable where there is no such image, or none with bash.
    """
    path = path.resolve()
    try:
        folder = path if path.is_dir() else _unpacked(path)
    except (OSError, tarfile.TarError) as error:
        raise SandboxUnavailable(f"The root file system {path} can't be used: {error}") from error
    if any(character in str(folder) for character in ",:\\"):
        raise SandboxUnavailable(f"The path of a root file system has no , : or \\: {folder}")
    if not _has_program(folder, "/bin/bash"):
        raise SandboxUnavailable(
            f"There is no /bin/bash in the root file system {path}: "
            "it has to be a folder or a tar of a whole system, such as docker export writes"
        )
    return folder


def _has_program(root: Path, name: str) -> bool:
    """Whether *name* is an executable file, links being followed inside *root*."""
    parts, place, links = name.split("/")[1:], "", 0
    while parts:
        here = f"{place}/{parts.pop(0)}"
        inside = os.path.normpath(f"{root}{here}")
        if os.path.islink(inside):
            links += 1
            if links > _DEEPEST_LINKS:
                return False
            target = os.path.normpath(os.path.join("/", place, os.readlink(inside)))
            parts, place = target.split("/")[1:] + parts, ""
        else:
            place = here
    inside = f"{root}{place}"
    return os.path.isfile(inside) and os.access(inside, os.X_OK)


def _unpacked(path: Path) -> Path:
    import fcntl

    status = path.stat()
    name = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{os.geteuid()}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    images = cache / "pytest-shelleval" / "rootfs"
    # For nobody else: programs in it that change their user would do so on the host too.
    images.mkdir(parents=True, exist_ok=True, mode=0o700)
    images.chmod(0o700)
    folder = images / hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
    with (images / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _extract(path, part)
            part.rename(folder)
    return folder


def _extract(path: Path, folder: Path) -> None:
    """Unpack as tar does, owners only where they can be given, devices never."""
    directories = []
    with tarfile.open(path) as archive:
        # What a tar of the user's own choice has is taken as it is.
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        for member in archive:
            target = os.path.normpath(member.name.lstrip("/"))
            parent = os.path.realpath(folder / os.path.dirname(target))
            if target.startswith("..") or not f"{parent}/".startswith(f"{folder}/"):
                raise tarfile.TarError(f"{member.name} leads outside")
            if member.isdev() and not member.isfifo():
                continue
            member.name = target
            if member.isdir():
                directories.append(member)
                (folder / target).mkdir(exist_ok=True, parents=True)
            else:
                archive.extract(member, folder, numeric_owner=True)
        # Last: what is made in a directory changes its time, and may not be allowed any more.
        for member in reversed(directories):
            place = folder / member.name
            if os.geteuid() == 0:
                os.chown(place, member.uid, member.gid)
            # Its owner is the sandbox's root, who can do everything there.
            place.chmod(member.mode & 0o7777 | 0o700)
            with contextlib.suppress(OSError):
                os.utime(place, (member.mtime, member.mtime))
