"""What all kinds of sandbox share: limits, the spec of a run, and the registry's contract of a kind.

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
    """Resource limits of one sandbox. A command that hits one has failed by its own fault."""

    memory: int = 1 << 30
    """Bytes of resident memory, summed over all processes."""
    disk: int = 256 << 20
    """Bytes that may be written."""
    processes: int = 256
    """Processes and threads alive at once."""
    output: int = 1 << 20
    """Bytes of output kept per step; the rest is read and discarded."""


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
    """Whether a SoS option was given; ``auto`` then means ``sos``."""
    sos_token: str | None = None
    sos_permits: int | None = None
    workers: int = 1
    """Processes that share the servers' permits."""
    state_directory: Path | None = None
    """A folder that the processes of a run share: permits, sandboxes still to stop, snapshots of
    setups."""


class SandboxKind(ABC):
    """One kind of sandbox, as :mod:`pytest_shelleval.sandboxes.registry` knows it."""

    pool_size = 1
    """Sandboxes created ahead by default."""
    trouble: str
    """The start of the message if no sandbox can be created."""
    advice = ""
    """How to fix that, one line; empty if the message says it."""

    @abstractmethod
    def provide(self, spec: SandboxSpec) -> SandboxProvider:
        """The provider for *spec*. Raises SandboxUnavailable if a package is missing."""

    def provide_for_check(self, spec: SandboxSpec) -> SandboxProvider:
        """The provider for :meth:`check`: it may report progress, or give up sooner."""
        return self.provide(spec)

    def identity(self, spec: SandboxSpec) -> Mapping[str, Any]:
        """The values of *spec*, besides kind and limits, that may decide a verdict; JSON values."""
        return {}

    def concurrency(self, spec: SandboxSpec) -> int:
        """The default of concurrent executions in one process."""
        return 1

    def asked_for(self, spec: SandboxSpec) -> bool:
        """Whether options of only this kind were given, so that ``auto`` means this kind."""
        return False

    def check(self, spec: SandboxSpec) -> None:
        """Create one sandbox as a trial. Raises SandboxUnavailable, whose message says how to fix it."""
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
        """Clean up after killed processes, by ``spec.state_directory``.

        Returns whether nothing of this kind is left there.
        """
        return True

    def pool_size_for(self, spec: SandboxSpec) -> int:
        """Sandboxes created ahead for *spec*."""
        return self.pool_size if spec.pool_size is None else spec.pool_size


def missing_package(extra: str, error: ImportError) -> SandboxUnavailable:
    """The error for a kind whose package is not installed; *extra* is the extra that includes it."""
    return SandboxUnavailable(
        f"{error.name} is not installed. Type: pip install 'pytest-shelleval[{extra}]'"
    )
