"""Resets what a process inherits from its parent and a sandbox must not see.

``nohup pytest`` ignores SIGHUP, ``nice pytest`` is slow, and so are all processes that they start: a
command would behave differently depending on the shell. For an ordinary user, what only root may undo
is left unchanged: niceness, SCHED_IDLE, hard limits, and an oom score that root has raised.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal

_ANY = resource.RLIM_INFINITY
# Soft and hard, as the kernel sets them for its first process. Those that a sandbox limits itself
# (data, files, processes) are only raised as far as it needs.
_LIMITS = {
    resource.RLIMIT_AS: (_ANY, _ANY),
    resource.RLIMIT_CPU: (_ANY, _ANY),
    resource.RLIMIT_DATA: (_ANY, _ANY),
    resource.RLIMIT_FSIZE: (_ANY, _ANY),
    resource.RLIMIT_MEMLOCK: (8 << 20, 8 << 20),
    resource.RLIMIT_MSGQUEUE: (819200, 819200),
    resource.RLIMIT_NICE: (0, 0),
    resource.RLIMIT_NOFILE: (4096, 4096),
    resource.RLIMIT_NPROC: (_ANY, _ANY),
    resource.RLIMIT_RSS: (_ANY, _ANY),
    resource.RLIMIT_RTPRIO: (0, 0),
    resource.RLIMIT_RTTIME: (_ANY, _ANY),
    resource.RLIMIT_SIGPENDING: (4096, 4096),
    resource.RLIMIT_STACK: (8 << 20, _ANY),
}
# The kernel's OOM killer should kill a sandbox before any process of the host.
_OOM_SCORE = b"500"


def shed() -> None:
    """Reset it for this process and all that it starts."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.umask(0o022)
    for kind, (soft, hard) in _LIMITS.items():
        set_limit(kind, soft, hard)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
        file.write(_OOM_SCORE)


def set_limit(kind: int, soft: int, hard: int) -> None:
    """Set a resource limit, or the highest that this process may set."""
    try:
        resource.setrlimit(kind, (soft, hard))
    except (OSError, ValueError):
        hard = _lower(hard, resource.getrlimit(kind)[1])
        resource.setrlimit(kind, (_lower(soft, hard), hard))


def _lower(one: int, other: int) -> int:
    return min(one, other, key=lambda limit: float("inf") if limit == _ANY else limit)
