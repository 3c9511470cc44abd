"""Which kind of sandbox to use."""

from __future__ import annotations

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.sandboxes.base import Limits


def choose_provider(
    kind: str, *, limits: Limits, pool_size: int, sos_wanted: bool = False
) -> SandboxProvider:
    """The provider for *kind*: ``local``, ``docker``, ``sos``; or ``auto``, what works here.

    Raises SandboxUnavailable, whose message says what to do.
    """
    if kind == "sos" or (kind == "auto" and sos_wanted):
        raise SandboxUnavailable("SoS sandboxes are not in this version; use --shelleval-sandbox=local")
    if kind == "docker":
        raise SandboxUnavailable(
            "Docker sandboxes are not in this version; use --shelleval-sandbox=local"
        )
    from pytest_shelleval.sandboxes.local.provider import LocalProvider

    return LocalProvider(limits, pool_size=pool_size)
