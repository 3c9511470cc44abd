"""Which kind of sandbox to use."""

from __future__ import annotations

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.sandboxes.base import Limits


def check_sandbox(kind: str, *, sos_wanted: bool = False) -> None:
    """See that the sandbox of *kind* works here, by running a command in one.

    Raises SandboxUnavailable, whose message says what to do.
    """
    resolve_kind(kind, sos_wanted=sos_wanted)
    from pytest_shelleval.sandboxes.local.probe import probe

    report = probe()
    if not report.ok:
        raise SandboxUnavailable(report.message)


def resolve_kind(kind: str, *, sos_wanted: bool) -> str:
    """What ``auto`` stands for here. Raises SandboxUnavailable for a kind that is not there."""
    if kind == "sos" or (kind == "auto" and sos_wanted):
        raise SandboxUnavailable(
            "SoS sandboxes are not in this version; use --shelleval-sandbox=local"
        )
    if kind == "docker":
        raise SandboxUnavailable(
            "Docker sandboxes are not in this version; use --shelleval-sandbox=local"
        )
    return "local"


def choose_provider(
    kind: str, *, limits: Limits, pool_size: int, sos_wanted: bool = False
) -> SandboxProvider:
    """The provider for *kind*: ``local``, ``docker``, ``sos``; or ``auto``, what works here.

    Raises SandboxUnavailable, whose message says what to do.
    """
    resolve_kind(kind, sos_wanted=sos_wanted)
    from pytest_shelleval.sandboxes.local.provider import LocalProvider

    return LocalProvider(limits, pool_size=pool_size)
