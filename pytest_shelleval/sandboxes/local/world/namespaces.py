"""The kernel calls that build a sandbox, by ctypes; each raises an OSError that names the call.

Only what :mod:`os` lacks on Python 3.10. Nothing here keeps state.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOUNT_ATTR_IDMAP = 0x00100000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_KEYCTL_JOIN_SESSION_KEYRING = 1
_CAPABILITY_VERSION = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
_SIGCHLD = 17

# name -> (x86_64, aarch64)
_NUMBERS = {
    "clone": (56, 220),
    "capget": (125, 90),
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "keyctl": (250, 219),
    "seccomp": (317, 277),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "mount_setattr": (442, 442),
}
MACHINES = ("x86_64", "aarch64")
"""The machines whose system call numbers are known."""

_COLUMN = MACHINES.index(os.uname().machine) if os.uname().machine in MACHINES else 0

# Without releasing the GIL: the processes that use this have one thread, and clone() must not return
# in a child that waits for a lock.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def _done(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def _syscall(call: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    number = _NUMBERS[call][_COLUMN]
    # Every integer as a long, or the upper half of a register would be undefined.
    return _done(
        _libc.syscall(
            ctypes.c_long(number),
            *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments),
        ),
        call,
    )


def clone(flags: int) -> int:
    """Fork into new namespaces: 0 in the child, the child's id in the parent."""
    return _syscall("clone", flags | _SIGCHLD, 0, 0, 0, 0)


def unshare(flags: int) -> None:
    """Move to new namespaces (and what else *flags* says)."""
    _done(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace behind *descriptor*."""
    _done(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, data: str = ""
) -> None:
    """Mount."""
    result = _libc.mount(
        source.encode() if source else None,
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _done(result, f"mount {kind or source or ''} on {target}")


def unmount(target: str) -> None:
    """Detach a whole tree of mounts; it is freed when nothing uses it."""
    _done(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new_root: str) -> None:
    """Make *new_root* the root and drop the old one."""
    os.chdir(new_root)
    _syscall("pivot_root", b".", b".")
    unmount(".")
    os.chdir("/")


def clone_mount(path: str, *, user_namespace: int | None = None) -> int:
    """A detached mount of the tree at *path* without the mounts below it.

    With *user_namespace*, an open namespace, the owners of files are mapped as in that namespace.
    """
    tree = _syscall("open_tree", -100, os.fsencode(path), _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC)
    if user_namespace is not None:
        attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
        try:
            _syscall("mount_setattr", tree, b"", _AT_EMPTY_PATH, attributes, len(attributes))
        except OSError:
            os.close(tree)
            raise
    return tree


def attach_mount(tree: int, target: str) -> None:
    """Put a detached mount at *target*."""
    _syscall("move_mount", tree, b"", -100, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)


def set_dumpable(dumpable: bool) -> None:
    """Set whether others may trace this process and read its /proc entries."""
    _done(_libc.prctl(_PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl")


def set_name(name: str) -> None:
    """Set the name of this process that ``ps`` shows."""
    buffer = ctypes.create_string_buffer(name.encode())
    _done(_libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl")


def limit_capabilities(keep: frozenset[int]) -> None:
    """Drop all but *keep* from the bounding set: programs that this process executes can't have more."""
    for capability in range(64):
        if capability not in keep and _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            number = ctypes.get_errno()
            if number == 22:  # EINVAL: past the last one that this kernel knows
                return
            raise OSError(number, f"prctl: {os.strerror(number)}")


def inherit_capability(capability: int | None) -> None:
    """Make programs that this thread executes inherit *capability*, which it holds; None: nothing.

    The bounding set does not limit this: programs executed by root also have what they inherit, see
    capabilities(7).
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    # effective, permitted, inheritable of 0 to 31, then those of 32 to 63
    sets = ctypes.create_string_buffer(24)
    _syscall("capget", header, sets)
    words = list(struct.unpack("=6I", sets.raw))
    words[2] = words[5] = 0
    if capability is not None:
        words[3 * (capability // 32) + 2] = 1 << capability % 32
    _syscall("capset", header, struct.pack("=6I", *words))


def new_session_keyring() -> None:
    """Replace the keyring of the user's session by a new one."""
    _syscall("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None)


def set_host_name(name: str) -> None:
    """Set the host name of this UTS namespace, and clear its domain name."""
    _done(_libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "sethostname")
    _done(_libc.setdomainname(b"", ctypes.c_size_t(0)), "setdomainname")


def install_filter(program: bytes, *, tells: bool = False) -> int:
    """Install a seccomp program on this thread and all that it starts.

    With *tells*, returns the listener descriptor for calls that the program reports.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog
    descriptor = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    flags = _SECCOMP_FILTER_FLAG_NEW_LISTENER if tells else 0
    return _syscall("seccomp", _SECCOMP_SET_MODE_FILTER, flags, descriptor)


def overwrite_arguments(text: bytes) -> None:
    """Replace the command line in ``/proc/<pid>/cmdline``, which has paths of the host."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    size = end - start
    if size > len(text) + 1:
        ctypes.memset(start, 0, size)
        ctypes.memmove(start, text, len(text))
        # A last byte other than NUL makes the kernel end the line at the first NUL.
        ctypes.memset(end - 1, 1, 1)
