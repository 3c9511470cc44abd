"""What all kinds of sandbox share: what a run asks for, limits, what the registry knows of a kind.

The contract itself, :class:`Sandbox` and :class:`SandboxProvider`, is in
:mod:`pytest_shelleval.core.sandbox`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.sandboxes.defaults import DEFAULT_IMAGE


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources of one sandbox. A command that hits one has failed by its own doing."""

    memory: int = 1 << 30
    """Bytes of resident memory, summed over all processes."""
    disk: int = 256 << 20
    """Bytes that may be written."""
    processes: int = 256
    """Processes and threads alive at once."""
    output: int = 1 << 20
    """Bytes of output kept per step; the rest is read and thrown away."""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """Which sandboxes a run uses. A kind ignores the fields that do not concern it."""

    kind: str
    """``auto``, or a name of the registry: ``local``, ``docker``, ``sos`` or another package's."""
    limits: Limits
    image: str = DEFAULT_IMAGE
    """docker and sos."""
    pool_size: int | None = None
    """Sandboxes created ahead; None: the kind's default."""
    rootfs: Path | None = None
    """local: a folder or tar in place of the host's files."""
    network: bool = False
    """docker: whether sandboxes get a network."""
    sos_urls: Sequence[str] = ()
    sos_named: bool = False
    """Whether a SoS option was given, which decides ``auto``."""
    sos_token: str | None = None
    sos_permits: int | None = None
    concurrency: int = 1
    """Sandboxes that one process uses at a time."""
    workers: int = 1
    """Processes that share the servers' permits."""
    state_directory: Path | None = None
    """A folder of the run that its processes share: permits, sandboxes to be stopped, snapshots of
    setups."""


class SandboxKind(ABC):
    """One kind of sandbox, as :mod:`pytest_shelleval.sandboxes.registry` knows it."""

    pool_size = 1
    """Sandboxes created ahead by default."""
    trouble: str
    """Leads the message if no sandbox can be created."""
    advice = ""
    """What to do then, one line; empty if the message says it."""

    @abstractmethod
    def provide(self, spec: SandboxSpec) -> SandboxProvider:
        """The provider for *spec*. Raises SandboxUnavailable if a package is missing."""

    def provide_for_check(self, spec: SandboxSpec) -> SandboxProvider:
        """The provider for :meth:`check`: one that tells more, or gives up sooner."""
        return self.provide(spec)

    def identity(self, spec: SandboxSpec) -> Mapping[str, Any]:
        """What of *spec*, beside kind and limits, may decide a verdict; JSON values."""
        return {}

    def concurrency(self, spec: SandboxSpec) -> int:
        """Executions at a time in one process if the user does not say."""
        return 1

    def asked_for(self, spec: SandboxSpec) -> bool:
        """Whether options that only this kind has were given, so that ``auto`` stands for it."""
        return False

    def check(self, spec: SandboxSpec) -> None:
        """Create one sandbox. Raises SandboxUnavailable, whose message says what to do."""
        provider = self.provide_for_check(replace(spec, pool_size=0, state_directory=None))
        try:
            provider.acquire().close()
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            said = f"{self.trouble}: {error}"
            raise SandboxUnavailable("\n".join(filter(None, (said, self.advice)))) from error
        finally:
            provider.close()

    def clean_up(self, spec: SandboxSpec) -> bool:
        """Remove what killed processes left, by ``spec.state_directory``.

        Whether nothing of this kind is left there.
        """
        return True

    def pool_size_for(self, spec: SandboxSpec) -> int:
        """Sandboxes created ahead for *spec*."""
        return self.pool_size if spec.pool_size is None else spec.pool_size


def missing_package(extra: str, error: ImportError) -> SandboxUnavailable:
    """The error for a kind whose package is not installed; *extra* is the one that brings it."""
    return SandboxUnavailable(
        f"{error.name} is not installed. Type: pip install 'pytest-shelleval[{extra}]'"
    )
