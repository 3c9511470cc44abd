"""The user's root file system: a folder, or the tar that ``docker export`` writes.

This is the client's side; :mod:`rootfs` stacks the sandbox on the folder from here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import zlib
from pathlib import Path

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.core.files import locked

_DEEPEST_LINKS = 8


def folder_of(path: Path) -> Path:
    """The folder of the image *path*: itself, or where its tar is unpacked, once for all runs.

    Raises SandboxUnavailable if the image can't be used or has no bash.
    """
    path = path.resolve()
    try:
        folder = path if path.is_dir() else _unpacked(path)
    except (OSError, tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        raise SandboxUnavailable(f"The root file system {path} can't be used: {error}") from error
    if any(character in str(folder) for character in ",:\\"):
        raise SandboxUnavailable(f"The path of a root file system must have no , : or \\: {folder}")
    if not _has_program(folder, "/bin/bash"):
        raise SandboxUnavailable(
            f"There is no /bin/bash in the root file system {path}: "
            "it must be a folder or a tar of a whole system, such as docker export writes"
        )
    return folder


def _has_program(root: Path, name: str) -> bool:
    """Whether *name* is an executable file; links are followed inside *root*."""
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
    status = path.stat()
    name = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0{os.geteuid()}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    images = cache / "pytest-shelleval" / "rootfs"
    # Private: setuid programs in it would change their user on the host too.
    images.mkdir(parents=True, exist_ok=True, mode=0o700)
    images.chmod(0o700)
    folder = images / hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
    with locked(images / "lock"):
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            _extract(path, part)
            part.rename(folder)
    return folder


def _extract(path: Path, folder: Path) -> None:
    """Unpack *path* into the empty *folder*: with owners if this process may set them, without devices.

    Nothing outside *folder* is touched: no link of the archive is ever followed. This does not rely
    on tarfile's own filters: they differ between versions of Python, and those that refuse links to
    the outside refuse every system that has a link such as /etc/mtab.
    """
    directories: dict[str, tarfile.TarInfo | None] = {str(folder): None}
    with tarfile.open(path) as archive:
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        for member in archive:
            if member.isdev() and not member.isfifo():
                continue
            what = f"the member {member.name!r}"
            place = _place(folder, member.name, directories, what)
            if member.isdir():
                if place not in directories:
                    _remove(place)
                    os.mkdir(place)
                directories[place] = member
                continue
            _remove(place)
            if member.islnk():
                what += f", a hard link to {member.linkname!r},"
                _link(_place(folder, member.linkname, directories, what), place, what)
            else:
                member.name = os.path.relpath(place, folder)
                archive.extract(member, folder, numeric_owner=True)
    # Last: creating entries changes a directory's time, and its mode may forbid it.
    for place, directory in reversed(directories.items()):
        if directory is None:
            continue
        if os.geteuid() == 0:
            os.chown(place, directory.uid, directory.gid)
        # Its owner is the sandbox's root, who may do everything there.
        os.chmod(place, directory.mode & 0o7777 | 0o700)
        with contextlib.suppress(OSError):
            os.utime(place, (directory.mtime, directory.mtime))


def _place(
    folder: Path, name: str, directories: dict[str, tarfile.TarInfo | None], what: str
) -> str:
    """The path of *name*; creates its parents unless they are among *directories*.

    These are real directories and stay so: nothing replaces a directory. Raises TarError about *what*.
    """
    parts = os.path.normpath(name.lstrip("/")).split("/")
    if parts[0] == "..":
        raise tarfile.TarError(f"{what} leads outside")
    place = str(folder)
    for part in parts[:-1]:
        place = f"{place}/{part}"
        if place not in directories:
            try:
                os.mkdir(place)
            except FileExistsError:
                raise tarfile.TarError(
                    f"{what} leads outside: {os.path.relpath(place, folder)!r} is a link or a file "
                    "in it, not a folder. Make the tar with docker export, or unpack it yourself "
                    "and name the folder"
                ) from None
            directories[place] = None
    return place if parts[-1] == "." else f"{place}/{parts[-1]}"


def _remove(place: str) -> None:
    """Remove *place* for a later member of the same name. Raises OSError for a directory."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(place)


def _link(target: str, place: str, what: str) -> None:
    try:
        os.link(target, place, follow_symlinks=False)
    except FileNotFoundError:
        raise tarfile.TarError(f"{what} comes before the file it links to") from None
