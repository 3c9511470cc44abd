"""Makes up for what an ordinary user's sandbox lacks: other ids, and ownership of the host's programs.

Such a user has few ids to map, often only one, and files of the host's root belong to nobody inside.
A container's root could give a file to another user, and change the mode of ``/usr/bin/find``. So the
kernel reports the calls in question to a thread of the first process before it executes them
(seccomp_unotify(2)): a program of the host that is about to be changed is replaced by a copy that
belongs to the sandbox's root; a call that needs a missing id is noted, because the kernel will refuse
it, which is not the command's fault.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Callable, Mapping, Sequence

from pytest_shelleval.sandboxes.local.world.layers import Place, exists, innermost_first, place_of

# struct seccomp_notif: id, pid, flags; struct seccomp_data: number, architecture, instruction
# pointer, six arguments. struct seccomp_notif_resp: id, value, error, flags.
_NOTICE = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_HERE = -100
_NO_FOLLOW = 0x100
_KEEP = 0xFFFFFFFF
_LONGEST_PATH = 4096
_LARGEST = 64 << 20
_STRANGER = 65534

# The shape of a call: which of its arguments are a directory, a path (-1: none), ids.
_Shape = tuple[int, int, tuple[int, ...]]
SHAPES: Mapping[str, _Shape] = {
    "chown": (-1, 0, (1, 2)),
    "lchown": (-1, 0, (1, 2)),
    "fchownat": (0, 1, (2, 3)),
    "fchown": (-1, -1, (1, 2)),
    "chmod": (-1, 0, ()),
    "fchmodat": (0, 1, ()),
    "fchmodat2": (0, 1, ()),
    "open": (-1, 0, ()),
    "openat": (0, 1, ()),
    "creat": (-1, 0, ()),
    "truncate": (-1, 0, ()),
    "rename": (-1, 0, ()),
    "renameat": (0, 1, ()),
    "renameat2": (0, 1, ()),
    "utimensat": (0, 1, ()),
    "utimes": (-1, 0, ()),
    "setuid": (-1, -1, (0,)),
    "setgid": (-1, -1, (0,)),
    "setreuid": (-1, -1, (0, 1)),
    "setregid": (-1, -1, (0, 1)),
    "setresuid": (-1, -1, (0, 1, 2)),
    "setresgid": (-1, -1, (0, 1, 2)),
    "setgroups": (-1, -1, ()),
}
"""The reported calls, and how to read their arguments."""
_OF_THE_ENTRY = frozenset(("lchown", "rename", "renameat", "renameat2"))
_FLAGS = {"fchownat": 4, "fchmodat2": 3, "utimensat": 3}


class NotificationListener:
    """Answers the kernel's reports of one sandbox, in its own thread."""

    def __init__(self, names: Mapping[int, str], ids: int, places: Sequence[Place]) -> None:
        self._names = names
        self._ids = ids
        self._places = innermost_first(places)
        self._listener = -1
        self._ready = _thread.allocate_lock()
        self.lacking = False
        """Whether a call needed an id that the sandbox does not have."""

    def start(self, install: Callable[[], int]) -> bool:
        """Answer from now on, as long as the sandbox lives; False if the kernel can't report calls.

        *install* installs the seccomp program on this thread. The answering thread starts before
        that, so that the program does not apply to it.
        """
        self._ready.acquire()
        _thread.start_new_thread(self._serve, ())
        try:
            self._listener = install()
        except OSError:
            return False
        finally:
            self._ready.release()
        return True

    def _serve(self) -> None:
        self._ready.acquire()
        while self._listener >= 0:
            notice = bytearray(_NOTICE.size)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, notice)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue  # the calling process is gone
                return
            token, process, _, number, _, _, *arguments = _NOTICE.unpack(notice)
            pretended = False
            # A process may have passed anything; without an answer it would wait for ever.
            with contextlib.suppress(Exception):
                pretended = self._consider(process, self._names[number], arguments)
            answer = _RESPONSE.pack(token, 0, 0, 0 if pretended else _CONTINUE)
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._listener, _SEND, answer)

    def _consider(self, process: int, name: str, arguments: list[int]) -> bool:
        """Handle one call; True to report success to the caller without executing it."""
        if name == "setgroups":
            # With one id there are no groups to leave or enter.
            return True
        directory, path, owners = SHAPES[name]
        wanted = {arguments[owner] & _KEEP for owner in owners} - {_KEEP}
        foreign = {owner for owner in wanted if owner >= self._ids}
        if foreign:
            self.lacking = True
            # Copies of the host's programs, whose originals belong to nobody here, but to root there.
            return "chown" in name and foreign == {_STRANGER}
        if path >= 0:
            follow = name not in _OF_THE_ENTRY
            if name in _FLAGS and arguments[_FLAGS[name]] & _NO_FOLLOW:
                follow = False
            base = arguments[directory] & _KEEP if directory >= 0 else _HERE & _KEEP
            self._take_over(process, base, arguments[path], follow)
        return False

    def _take_over(self, process: int, base: int, address: int, follow: bool) -> None:
        """Replace the file that the call names by the sandbox's own copy, if it is the host's program."""
        path = _read_text(process, address)
        if not path or path.startswith((b"/dev/", b"/tmp/", b"/home/", b"/proc/")):
            return
        if os.readlink(f"/proc/{process}/root") != "/":
            return
        if not path.startswith(b"/"):
            signed = base - (1 << 32) if base >> 31 else base
            place = "cwd" if signed == _HERE else f"fd/{signed}"
            path = os.path.join(os.readlink(f"/proc/{process}/{place}".encode()), path)
        flags = os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
        file = os.open(path, flags)
        try:
            status = os.fstat(file)
            whole = os.readlink(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        if (
            status.st_uid == _STRANGER
            and stat.S_ISREG(status.st_mode)
            and status.st_size <= _LARGEST
            and self._is_below(whole)
        ):
            _replace_by_copy(whole, status)

    def _is_below(self, path: str) -> bool:
        """Whether *path* is the host's: in a lower layer, and not written in this sandbox."""
        found = place_of(path, self._places)
        if found is None:
            return False
        place, relative = found
        return not exists(relative, place.upper) and place.has_below(relative)


def _read_text(process: int, address: int) -> bytes:
    """The string at *address* in the memory of *process*, up to its NUL."""
    memory = os.open(f"/proc/{process}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        # The next page may not be mapped, so no read crosses a page.
        text = b""
        while len(text) < _LONGEST_PATH:
            part = os.pread(memory, 4096 - (address + len(text)) % 4096, address + len(text))
            text += part
            if not part or b"\0" in part:
                break
        return text.partition(b"\0")[0]
    finally:
        os.close(memory)


def _replace_by_copy(path: str, status: os.stat_result) -> None:
    """Replace *path* by a copy with its mode and times, owned by root."""
    new = os.path.join(os.path.dirname(path), f".{secrets.token_hex(8)}")
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        target = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = status.st_size
            while left > 0:
                sent = os.sendfile(target, source, None, left)
                if not sent:
                    break
                left -= sent
            os.fchmod(target, stat.S_IMODE(status.st_mode))
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.rename(new, path)
        except BaseException:
            os.unlink(new)
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)
