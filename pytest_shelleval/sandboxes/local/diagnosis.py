"""Why the local sandbox does not work on a machine, and what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_shelleval.sandboxes.local.crowding import crowded

_ELSEWHERE = "Or use another sandbox: --shelleval-sandbox=docker or --shelleval-sandbox=sos."
_UNCONFINED = (
    "    --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
    "--security-opt systempaths=unconfined"
)


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """The result of a trial of the local sandbox."""

    ok: bool
    reason: str = ""
    """Why it does not work, in one sentence."""
    remedy: tuple[str, ...] = ()
    """Commands to type, or what to use instead."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """How sandboxes are built here: ids mapped, what enforces the limits."""

    @property
    def message(self) -> str:
        """Reason and remedy for the user, one per line."""
        return "\n".join((self.reason, *self.remedy))


def diagnosis(facts: Mapping[str, Any]) -> ProbeReport:
    """The report on a failure: *facts* has the ``stage`` and the ``error``."""
    reason = f"The local sandbox does not work here: {facts.get('error')}."
    return ProbeReport(False, reason, (*_remedies(facts), _ELSEWHERE), dict(facts))


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
        return [f"Perhaps because {room}."]
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
    # A partly covered /proc means a container too.
    error = str(facts.get("error"))
    denied = any(os.strerror(number) in error for number in (errno.EPERM, errno.EACCES))
    if not remedies and ((denied and _in_container()) or "mount proc" in error):
        remedies += [
            "This seems to be a container whose profile denies namespaces. Start it with:",
            _UNCONFINED,
        ]
    return remedies
