"""Whether the local sandbox works on this machine: found out by making one and using it."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.crowding import crowded

_ELSEWHERE = "Or use another sandbox: --shelleval-sandbox=docker or --shelleval-sandbox=sos."
_UNCONFINED = (
    "    --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined"
)
_TRIAL = (
    "set -e; [ $(id -u) = 0 ]; cd /tmp; echo text > file; [ $(cat file) = text ]; "
    "rm -rf /srv; mkdir /srv; touch /etc/trial /usr/local/bin/trial; [ -r /proc/self/status ]"
)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """What a trial of the local sandbox showed."""

    ok: bool
    reason: str = ""
    """Why it does not work, in one sentence."""
    remedy: tuple[str, ...] = ()
    """What to type, or to use instead."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How sandboxes are built here: ids mapped, what holds the limits."""

    @property
    def message(self) -> str:
        """Reason and remedy for a person."""
        return "\n".join((self.reason, *self.remedy))


def probe(limits: Limits | None = None) -> ProbeReport:
    """Start one real sandbox and run a command in it.

    Where it works with the default limits and not with *limits*, the option to be changed is named.
    """
    tried = _probe(limits or Limits())
    if tried.ok or limits is None or crowded() or not _probe(Limits()).ok:
        return tried
    for name in ("memory", "disk", "processes"):
        usual = getattr(Limits(), name)
        if (
            getattr(limits, name) < usual
            and not _probe(replace(Limits(), **{name: getattr(limits, name)})).ok
        ):
            return ProbeReport(
                False,
                f"--shelleval-{name}={getattr(limits, name)} is less than a sandbox itself needs.",
                (f"Raise it; the default is {usual}.",),
            )
    return tried


def _probe(limits: Limits) -> ProbeReport:
    from pytest_shelleval.sandboxes.local.provider import LocalProvider

    unsupported = _unsupported()
    if unsupported:
        return report({"stage": "platform", "error": unsupported})
    provider = LocalProvider(limits, pool_size=0)
    try:
        sandbox = provider.acquire()
        result = sandbox.exec(_TRIAL, timeout=20)
        facts = provider.facts
    except SandboxUnavailable as error:
        reason, *remedy = str(error).splitlines()
        return ProbeReport(False, reason, tuple(remedy))
    except SandboxError as error:
        return report({"stage": "trial", "error": str(error)})
    finally:
        provider.close()
    if result.exit_code != 0:
        said = result.output.strip() or f"exit status {result.exit_code}"
        return report({"stage": "trial", "error": f"a trial command failed: {said}"})
    return ProbeReport(
        True,
        facts={
            **facts,
            "seccomp": True,
            "memory_by": "watchdog and RLIMIT_DATA",
            "processes_by": "RLIMIT_NPROC",
            "disk_by": "tmpfs",
        },
    )


def report(facts: Mapping[str, Any]) -> ProbeReport:
    """What to tell of a failure: *facts* has the ``stage`` and the ``error``."""
    reason = f"The local sandbox does not work here: {facts.get('error')}."
    return ProbeReport(False, reason, (*_remedies(facts), _ELSEWHERE), dict(facts))


def _unsupported() -> str:
    if sys.platform != "linux":
        return f"it needs Linux, this is {platform.system() or sys.platform}"
    release = platform.release()
    if release.endswith("-Microsoft"):
        return "WSL 1 has no namespaces"
    return ""


def _setting(path: str) -> str:
    with contextlib.suppress(OSError), open(f"/proc/sys/{path}") as file:
        return file.read().strip()
    return ""


def _in_container() -> bool:
    if any(os.path.exists(path) for path in ("/.dockerenv", "/run/.containerenv")):
        return True
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    with contextlib.suppress(OSError), open("/proc/1/cgroup") as file:
        text = file.read()
        return any(word in text for word in ("docker", "kubepods", "containerd", "libpod"))
    return False


def _remedies(facts: Mapping[str, Any]) -> list[str]:
    if facts.get("stage") in ("platform", "seccomp"):
        return []
    room = crowded()
    if room:
        return [f"Perhaps since {room}."]
    remedies = []
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        remedies += [
            "AppArmor restricts user namespaces here. Allow them with:",
            "    sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ]
    if _setting("kernel/unprivileged_userns_clone") == "0":
        remedies += [
            "User namespaces are switched off for ordinary users. Allow them with:",
            "    sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ]
    for kind in ("user", "mnt", "pid", "ipc", "uts", "net"):
        name = f"max_{kind}_namespaces"
        if _setting(f"user/{name}") == "0":
            remedies += [
                f"The number of {kind} namespaces is limited to 0. Raise it with:",
                f"    sudo sysctl -w user.{name}=10000",
            ]
    # A /proc that is partly covered is a container's too.
    error = str(facts.get("error"))
    denied = any(os.strerror(number) in error for number in (errno.EPERM, errno.EACCES))
    if not remedies and ((denied and _in_container()) or "mount proc" in error):
        remedies += [
            "This seems to be a container whose profile denies namespaces. Start it with:",
            _UNCONFINED,
        ]
    return remedies
