"""Which kind of sandbox a run uses, and the provider for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.quiet import Turns
from pytest_shelleval.core.sandbox import SandboxProvider
from pytest_shelleval.core.scratch import left_behind
from pytest_shelleval.sandboxes.base import Limits

_POOL_SIZES = {"local": 1, "docker": 2, "sos": 1}


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What the user asked for."""

    kind: str
    """``local``, ``docker``, ``sos`` or ``auto``."""
    limits: Limits
    image: str
    """For docker and sos."""
    pool_size: int | None = None
    """Sandboxes made ahead; None takes what suits the kind."""
    rootfs: Path | None = None
    """Local: a folder or tar in place of the host's files."""
    network: bool = False
    """Docker: whether sandboxes get a network."""
    sos_urls: Sequence[str] = ()
    sos_named: bool = False
    """Whether a SoS server was named on purpose, which decides ``auto``."""
    sos_token: str | None = None
    sos_permits: int | None = None
    workers: int = 1
    """Processes that share the servers' permits."""
    state_directory: Path | None = None
    """Where these processes tell each other of permits, of sandboxes to be stopped, and keep what
    setups left."""

    @property
    def identity(self) -> dict[str, Any]:
        """What of this may decide a verdict, as JSON values."""
        known: dict[str, Any] = {"kind": self.kind, "limits": asdict(self.limits)}
        if self.kind in ("docker", "sos"):
            known["image"] = self.image
        else:
            known["rootfs"] = None if self.rootfs is None else str(self.rootfs)
        if self.kind == "docker":
            known["network"] = self.network
        return known


def check(spec: SandboxSpec) -> str:
    """The kind that *spec* comes to, tried out here: a command is run in a local sandbox.

    Raises SandboxUnavailable, whose message says what to do.
    """
    if spec.kind == "docker":
        _check_docker(spec)
        return "docker"
    if spec.kind == "sos" or (spec.kind == "auto" and spec.sos_named):
        _check_sos(spec)
        return "sos"
    if spec.rootfs is not None:
        _check_rootfs(spec)
        return "local"
    from pytest_shelleval.sandboxes.local.probe import probe

    report = probe()
    if report.ok:
        return "local"
    if spec.kind == "auto":
        try:
            _check_docker(spec)
        except SandboxUnavailable as error:
            raise SandboxUnavailable(f"{report.message}\nDocker: {error}") from error
        return "docker"
    raise SandboxUnavailable(report.message)


def provide(spec: SandboxSpec) -> SandboxProvider:
    """The provider for *spec*; ``auto`` stands for ``sos`` where one was named, else for ``local``.

    Raises SandboxUnavailable when a package is missing.
    """
    kind = spec.kind
    if kind == "auto":
        kind = "sos" if spec.sos_named else "local"
    pool_size = _POOL_SIZES[kind] if spec.pool_size is None else spec.pool_size
    if kind == "docker":
        try:
            from pytest_shelleval.sandboxes.docker_engine.provider import DockerProvider
        except ImportError as error:
            raise _missing("docker", error) from error

        return DockerProvider(
            spec.limits, image=spec.image, pool_size=pool_size, network=spec.network
        )
    if kind == "sos":
        from pytest_shelleval.sandboxes.sos.provider import SosProvider

        return SosProvider(
            spec.sos_urls,
            image=spec.image,
            token=spec.sos_token,
            pool_size=pool_size,
            permits=spec.sos_permits,
            workers=spec.workers,
            state_directory=spec.state_directory,
            limits=spec.limits,
        )
    from pytest_shelleval.sandboxes.local.provider import LocalProvider

    state = spec.state_directory
    return LocalProvider(
        spec.limits,
        pool_size=pool_size,
        rootfs=spec.rootfs,
        snapshots=None if state is None else state / "snapshots",
        turns=None if state is None else Turns(state),
    )


def clean_up(spec: SandboxSpec) -> None:
    """Stop what killed workers left on SoS servers."""
    if spec.kind == "sos" and spec.state_directory is not None:
        from pytest_shelleval.sandboxes.sos.provider import sweep

        sweep(spec.state_directory, spec.sos_token)


def clean_up_after_killed_runs(spec: SandboxSpec) -> None:
    """Stop and remove what runs have left whose controller was killed.

    What they left on SoS servers waits for the next run that uses such servers.
    """
    from pytest_shelleval.sandboxes.sos.state import has_journals

    for folder in left_behind():
        clean_up(replace(spec, state_directory=folder))
        if not has_journals(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _check_rootfs(spec: SandboxSpec) -> None:
    """Raises SandboxUnavailable unless a sandbox runs on the files of the user's choice."""
    provider = provide(replace(spec, kind="local", pool_size=0, state_directory=None))
    _try(provider, f"{spec.rootfs} gives no sandbox")


def _check_docker(spec: SandboxSpec) -> None:
    """Raises SandboxUnavailable unless an engine starts a container; pulls the image if need be."""
    try:
        from pytest_shelleval.sandboxes.docker_engine.provider import DockerProvider
    except ImportError as error:
        raise _missing("docker", error) from error

    provider = DockerProvider(
        spec.limits, image=spec.image, pool_size=0, network=spec.network, progress=print
    )
    _try(provider, "the Docker engine gives no sandbox")


def _check_sos(spec: SandboxSpec) -> None:
    """Raises SandboxUnavailable unless one of the servers gives a sandbox."""
    from pytest_shelleval.sandboxes.sos.provider import SosProvider

    provider = SosProvider(
        spec.sos_urls, image=spec.image, token=spec.sos_token, pool_size=0, permits=1, patience=3.0
    )
    _try(
        provider,
        "no SoS server gives a sandbox",
        "Start one with sos serve or shelleval serve, or name another with --shelleval-sos-url",
    )


def _try(provider: SandboxProvider, trouble: str, advice: str = "") -> None:
    """Take one sandbox and close all. Raises SandboxUnavailable, led by *trouble*, if none comes."""
    try:
        provider.acquire().close()
    except SandboxUnavailable:
        raise
    except SandboxError as error:
        said = f"{trouble}: {error}"
        raise SandboxUnavailable(f"{said}\n{advice}" if advice else said) from error
    finally:
        provider.close()


def _missing(extra: str, error: ImportError) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"{error.name} is not installed. Type: pip install 'pytest-shelleval[{extra}]'"
    )
