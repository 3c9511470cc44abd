"""SoS servers in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.sandboxes.base import SandboxKind, SandboxSpec

_CHECK_PATIENCE = 3.0
"""Seconds without an answer of any server before the check fails."""


class SosKind(SandboxKind):
    """Sandboxes of SoS servers."""

    trouble = "no SoS server gives a sandbox"
    advice = "Start one with sos serve or shelleval serve, or name another with --shelleval-sos-url"

    def provide(self, spec: SandboxSpec) -> SandboxProvider:
        """Sandboxes of the servers at ``spec.sos_urls``, of the least busy first."""
        from pytest_shelleval.sandboxes.sos.provider import SosProvider

        return SosProvider(
            spec.sos_urls,
            image=spec.image,
            token=spec.sos_token,
            pool_size=self.pool_size_for(spec),
            permits=spec.sos_permits,
            workers=spec.workers,
            state_directory=spec.state_directory,
            limits=spec.limits,
        )

    def provide_for_check(self, spec: SandboxSpec) -> SandboxProvider:
        """The same, with one sandbox at a time and little patience."""
        from pytest_shelleval.sandboxes.sos.provider import SosProvider

        return SosProvider(
            spec.sos_urls,
            image=spec.image,
            token=spec.sos_token,
            pool_size=0,
            permits=1,
            patience=_CHECK_PATIENCE,
        )

    def concurrency(self, spec: SandboxSpec) -> int:
        """As many as the servers allow."""
        from pytest_shelleval.sandboxes.sos.fleet import permits_of

        return permits_of(spec.sos_urls, spec.sos_token, spec.sos_permits)

    def identity(self, spec: SandboxSpec) -> Mapping[str, Any]:
        """The image."""
        return {"image": spec.image}

    def asked_for(self, spec: SandboxSpec) -> bool:
        """Whether a SoS option was given."""
        return spec.sos_named

    def clean_up(self, spec: SandboxSpec) -> bool:
        """Stop the sandboxes of killed processes if this run uses SoS; returns whether none is left."""
        folder = spec.state_directory
        if folder is None:
            return True
        from pytest_shelleval.sandboxes.sos.state import has_journals

        if spec.kind == "sos":
            from pytest_shelleval.sandboxes.sos.provider import sweep

            sweep(folder, spec.sos_token)
        return not has_journals(folder)


KIND = SosKind()
