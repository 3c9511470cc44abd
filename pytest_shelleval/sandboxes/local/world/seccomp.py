"""The seccomp program of a sandbox: a decision tree over system call numbers, built in Python.

A list of denied calls: commands are ordinary programs, run as root of their namespaces. Calls that
newer kernels add are denied until somebody has reviewed them.
"""

from __future__ import annotations

import os
import struct

_ENOSYS, _EPERM, _EAFNOSUPPORT, _EPROTONOSUPPORT = 38, 1, 97, 93
_LAST_KNOWN = 466

# name -> (x86_64, aarch64); None if the machine has no such call
_PERMISSION_DENIED: dict[str, tuple[int | None, int | None]] = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "reboot": (169, 142),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "syslog": (103, 116),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "_sysctl": (156, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "fanotify_init": (300, 262),
    "vhangup": (153, 58),
}
# Reported as absent: programs do without them.
_ABSENT: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Memory that no process has mapped escapes the count of what a sandbox uses.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
_SPECIAL: dict[str, tuple[int, int]] = {
    "clone": (56, 220),
    "unshare": (272, 97),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "personality": (135, 92),
    "shmget": (29, 194),
    "prlimit64": (302, 261),
}
# Reported to a thread of the first process if the sandbox lacks ids, see ids.py.
_MEDIATED: dict[str, tuple[int | None, int | None]] = {
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "fchown": (93, 55),
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "open": (2, None),
    "openat": (257, 56),
    "creat": (85, None),
    "truncate": (76, 45),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "utimensat": (280, 88),
    "utimes": (235, None),
}
_MEDIATED_ONE_ID: dict[str, tuple[int | None, int | None]] = {
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
}
_FLAGS_OF_OPEN = {"open": 1, "openat": 2}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_NEW_NAMESPACES = 0x7E020000
_NEW_TIME_NAMESPACE = 0x80
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE, _NETLINK_SOCK_DIAG = 0, 4
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)
_SHARED_MEMORY_SEGMENT = 64 << 10

_LOAD, _EQUAL, _NOT_LESS, _ANY_BIT, _GREATER, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x25, 0x06
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_TELL = 0x7FC00000

_Instruction = tuple[int, int, int, int]


def _fail(number: int) -> int:
    return 0x00050000 | number


def _answer(verdict: int) -> list[_Instruction]:
    return [(_RETURN, 0, 0, verdict)]


def _low_half(argument: int) -> _Instruction:
    return (_LOAD, 0, 0, 16 + 8 * argument)


def _test(code: int, value: int, then: int, otherwise: list[_Instruction]) -> list[_Instruction]:
    """If the accumulator passes the test, answer *then*, else continue with *otherwise*."""
    return [(code, 0, 1, value), *_answer(then), *otherwise]


def _one_of(values: tuple[int, ...], verdict: int, otherwise: int) -> list[_Instruction]:
    program = _answer(otherwise)
    for value in values:
        program = _test(_EQUAL, value, verdict, program)
    return program


def _socket() -> list[_Instruction]:
    netlink = [
        _low_half(2),
        *_one_of((_NETLINK_ROUTE, _NETLINK_SOCK_DIAG), _ALLOW, _fail(_EPROTONOSUPPORT)),
    ]
    families = _one_of((_UNIX, _INET, _INET6), _ALLOW, _fail(_EAFNOSUPPORT))
    return [_low_half(0), (_EQUAL, 0, len(netlink), _NETLINK), *netlink, *families]


def _special_programs() -> dict[str, list[_Instruction]]:
    denied = _fail(_EPERM)
    return {
        "clone": [_low_half(0), *_test(_ANY_BIT, _NEW_NAMESPACES, denied, _answer(_ALLOW))],
        "unshare": [
            _low_half(0),
            *_test(_ANY_BIT, _NEW_NAMESPACES | _NEW_TIME_NAMESPACE, denied, _answer(_ALLOW)),
        ],
        "ioctl": [_low_half(1), *_one_of(_TERMINAL_INPUT, denied, _ALLOW)],
        "socket": _socket(),
        # Commands have the supervisor's uid, but must not change its limits.
        "prlimit64": [_low_half(0), *_test(_EQUAL, 1, denied, _answer(_ALLOW))],
        "personality": [_low_half(0), *_one_of(_PERSONALITIES, _ALLOW, denied)],
        # System V memory outlives its processes, and then the watchdog does not see it. The upper
        # half of the size is tested too.
        "shmget": [
            (_LOAD, 0, 0, 16 + 8 * 1 + 4),
            *_test(
                _GREATER,
                0,
                denied,
                [
                    _low_half(1),
                    *_test(_GREATER, _SHARED_MEMORY_SEGMENT, denied, _answer(_ALLOW)),
                ],
            ),
        ],
    }


def build(machine: str) -> bytes:
    """The program for *machine*, in the kernel's format. Raises KeyError for an unknown machine."""
    if machine not in _ARCHITECTURES:
        raise KeyError(machine)
    column = list(_ARCHITECTURES).index(machine)
    exceptions: dict[int, list[_Instruction]] = {}
    for names, verdict in ((_PERMISSION_DENIED, _EPERM), (_ABSENT, _ENOSYS)):
        for numbers in names.values():
            number = numbers[column]
            if number is not None:
                exceptions[number] = _answer(_fail(verdict))
    for name, program in _special_programs().items():
        exceptions[_SPECIAL[name][column]] = program
    # Also x86_64's x32 calls, which start at 0x40000000.
    return _assemble(machine, exceptions, [(_LAST_KNOWN + 1, _answer(_fail(_ENOSYS)))])


def build_telling(machine: str, one_id: bool) -> tuple[bytes, dict[int, str]]:
    """The program that reports calls, for a sandbox that lacks ids, and their names by number."""
    column = list(_ARCHITECTURES).index(machine)
    table = {**_MEDIATED, **(_MEDIATED_ONE_ID if one_id else {})}
    names = {number: name for name, both in table.items() if (number := both[column]) is not None}
    exceptions = {}
    for number, name in names.items():
        exceptions[number] = _answer(_TELL)
        if name in _FLAGS_OF_OPEN:
            # only calls that open for writing
            exceptions[number] = [
                _low_half(_FLAGS_OF_OPEN[name]),
                *_test(_ANY_BIT, os.O_WRONLY | os.O_RDWR, _TELL, _answer(_ALLOW)),
            ]
    return _assemble(machine, exceptions, []), names


def _assemble(
    machine: str,
    exceptions: dict[int, list[_Instruction]],
    last: list[tuple[int, list[_Instruction]]],
) -> bytes:
    """Allow all calls but the *exceptions*; *last* are ranges after the last exception."""
    architecture = _ARCHITECTURES[machine]
    # Ranges of numbers with one treatment each, in order, as (first number, program).
    ranges: list[tuple[int, list[_Instruction]]] = []
    following = 0
    for number in sorted(exceptions):
        if number > following:
            ranges.append((following, _answer(_ALLOW)))
        ranges.append((number, exceptions[number]))
        following = number + 1
    ranges.append((following, _answer(_ALLOW)))
    ranges += last

    program = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
        *_decide(ranges),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _decide(ranges: list[tuple[int, list[_Instruction]]]) -> list[_Instruction]:
    """A balanced tree: about nine comparisons for any call, instead of one per denied call."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _decide(ranges[:middle]), _decide(ranges[middle:])
    first = ranges[middle][0]
    if len(low) <= 255:
        return [(_NOT_LESS, len(low), 0, first), *low, *high]
    # Conditional jumps reach 255 instructions; a plain one reaches further.
    return [(_NOT_LESS, 0, 1, first), (0x05, 0, 0, len(low)), *low, *high]
