"""The first steps of a sandbox's first process: it sets up its new namespaces."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import socket
import struct

from pytest_shelleval.sandboxes.local.world import etc, inherited, namespaces, rootfs
from pytest_shelleval.sandboxes.local.world.layers import Place

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
# SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP: those that Docker leaves to root.
_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
# BLOCK_SUSPEND: useless in a namespace, so it can mark that one process has more than another.
_EXTRA_CAPABILITY = 36
_FILES = 4096
_SIOCSIFFLAGS = 0x8914
_UP_AND_RUNNING = struct.pack("16sh14x", b"lo", 0x41)


def build(ids: int, disk: int, trees: list[rootfs.Tree]) -> list[Place]:
    """Become root, and set up the sandbox's own host name, file system and network."""
    if ids > 1:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    namespaces.set_dumpable(False)
    namespaces.set_host_name(etc.HOST_NAME)
    places = rootfs.assemble(trees, disk)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _UP_AND_RUNNING)
    # Root may bind any port anyway.
    with contextlib.suppress(OSError):
        file = os.open("/proc/sys/net/ipv4/ip_unprivileged_port_start", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, b"0")
        finally:
            os.close(file)
    return places


def allowed(kind: int, wanted: int) -> int:
    """*wanted*, or the user's own hard limit of that *kind* if it is lower."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def restrict(memory: int, program: bytes) -> None:
    """Give up what commands must not inherit; this process keeps its own capabilities."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    # 1, not 0: a core pattern that names a program ignores all limits except this one.
    inherited.set_limit(resource.RLIMIT_CORE, 1, 1)
    inherited.set_limit(resource.RLIMIT_NOFILE, 1024, _FILES)
    # A backup of the watchdog, at twice the limit, because it also counts memory only reserved.
    inherited.set_limit(resource.RLIMIT_DATA, 2 * memory, 2 * memory)
    namespaces.inherit_capability(_EXTRA_CAPABILITY)
    namespaces.limit_capabilities(_CAPABILITIES)
    namespaces.install_filter(program)
