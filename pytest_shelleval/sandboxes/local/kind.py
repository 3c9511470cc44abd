"""The local sandbox in the registry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.core.quiet import Turns
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.sandboxes.base import SandboxKind, SandboxSpec


class LocalKind(SandboxKind):
    """Linux namespaces on this machine."""

    trouble = "no local sandbox can be created"

    def provide(self, spec: SandboxSpec) -> SandboxProvider:
        """Sandboxes on the host's files, or on ``spec.rootfs``."""
        from pytest_shelleval.sandboxes.local.provider import LocalProvider

        state = spec.state_directory
        return LocalProvider(
            spec.limits,
            pool_size=self.pool_size_for(spec),
            rootfs=spec.rootfs,
            snapshots=None if state is None else state / "snapshots",
            turns=None if state is None else Turns(state),
        )

    def concurrency(self, spec: SandboxSpec) -> int:
        """One per core that this process may use, and one more, because some wait."""
        return len(os.sched_getaffinity(0)) + 1

    def identity(self, spec: SandboxSpec) -> Mapping[str, Any]:
        """The root file system."""
        return {"rootfs": None if spec.rootfs is None else str(spec.rootfs)}

    def asked_for(self, spec: SandboxSpec) -> bool:
        """A root file system is only for this kind."""
        return spec.rootfs is not None

    def check(self, spec: SandboxSpec) -> None:
        """Run a command in a sandbox. Raises SandboxUnavailable."""
        if spec.rootfs is not None:
            super().check(spec)
            return
        from pytest_shelleval.sandboxes.local.probe import probe

        report = probe(spec.limits)
        if not report.ok:
            raise SandboxUnavailable(report.message)


KIND = LocalKind()
