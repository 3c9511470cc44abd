"""Docker containers in the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.sandboxes.base import SandboxKind, SandboxSpec, missing_package


class DockerKind(SandboxKind):
    """Containers of a Docker Engine."""

    pool_size = 2
    trouble = "the Docker engine gives no sandbox"

    def provide(self, spec: SandboxSpec) -> SandboxProvider:
        """Containers of ``spec.image``."""
        return self._provider(spec)

    def provide_for_check(self, spec: SandboxSpec) -> SandboxProvider:
        """The same, and prints the progress of a pull of the image."""
        return self._provider(spec, progress=print)

    def _provider(
        self, spec: SandboxSpec, progress: Callable[[str], None] | None = None
    ) -> SandboxProvider:
        try:
            from pytest_shelleval.sandboxes.docker_engine.provider import DockerProvider
        except ImportError as error:
            raise missing_package("docker", error) from error
        return DockerProvider(
            spec.limits,
            image=spec.image,
            pool_size=self.pool_size_for(spec),
            network=spec.network,
            progress=progress,
        )

    def concurrency(self, spec: SandboxSpec) -> int:
        """8: more gains nothing on one engine."""
        return 8

    def identity(self, spec: SandboxSpec) -> Mapping[str, Any]:
        """Image and network."""
        return {"image": spec.image, "network": spec.network}


KIND = DockerKind()
