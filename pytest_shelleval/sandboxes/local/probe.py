"""Tests whether the local sandbox works on this machine, by creating and using one."""

from __future__ import annotations

import platform
import sys
from dataclasses import replace

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.crowding import crowded
from pytest_shelleval.sandboxes.local.diagnosis import ProbeReport, diagnosis
from pytest_shelleval.sandboxes.local.provider import LocalProvider

_TRIAL = (
    "set -e; [ $(id -u) = 0 ]; cd /tmp; echo text > file; [ $(cat file) = text ]; "
    "rm -rf /srv; mkdir /srv; touch /etc/trial /usr/local/bin/trial; [ -r /proc/self/status ]"
)


def probe(limits: Limits | None = None) -> ProbeReport:
    """Start one real sandbox and run a command in it.

    If it works with the default limits but not with *limits*, the report names the option to change.
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
    unsupported = _unsupported()
    if unsupported:
        return diagnosis({"stage": "platform", "error": unsupported})
    provider = LocalProvider(limits, pool_size=0)
    try:
        sandbox = provider.acquire()
        result = sandbox.exec(_TRIAL, timeout=20)
        facts = provider.facts
    except SandboxUnavailable as error:
        reason, *remedy = str(error).splitlines()
        return ProbeReport(False, reason, tuple(remedy))
    except SandboxError as error:
        return diagnosis({"stage": "trial", "error": str(error)})
    finally:
        provider.close()
    if result.exit_code != 0:
        said = result.output.strip() or f"exit status {result.exit_code}"
        return diagnosis({"stage": "trial", "error": f"a trial command failed: {said}"})
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


def _unsupported() -> str:
    if sys.platform != "linux":
        return f"it needs Linux, this is {platform.system() or sys.platform}"
    release = platform.release()
    if release.endswith("-Microsoft"):
        return "WSL 1 has no namespaces"
    return ""
