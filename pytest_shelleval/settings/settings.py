"""The user's settings, resolved: one field per option."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_shelleval.core.redaction import Secret, hide, passwords_in, redacted
from pytest_shelleval.settings.table import OPTIONS

if TYPE_CHECKING:
    from pytest_shelleval.core.execution import ExecutionPolicy
    from pytest_shelleval.models.money import Prices
    from pytest_shelleval.sandboxes.base import Limits, SandboxSpec


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings: the options of the table, in its order; paths are absolute."""

    dataset: tuple[str, ...]
    split: str
    model: tuple[str, ...]
    phase: str
    output_dir: Path
    commands_file: Path
    max_samples: int | None
    temperature: float | None
    max_tokens: int | None
    base_url: str | None
    api_key: str | None
    sandbox: str
    sos_port: int
    sos_url: tuple[str, ...]
    sos_token: str | None
    sos_permits: int | None
    sandbox_image: str
    samples: int
    inference_concurrency: int
    execution_concurrency: int | None
    request_timeout: float
    extra_body: dict[str, Any] | None
    structured: bool
    rpm: int | None
    tpm: int | None
    max_wait: float
    price_input: float | None
    price_output: float | None
    max_cost: float | None
    inference: str
    refresh: bool
    prompt: Path | None
    system_prompt: Path | None
    rootfs: Path | None
    network: bool
    pool_size: int | None
    steps: str
    strict_setup: bool
    executions: int
    validate: bool
    command_timeout: float
    setup_timeout: float
    memory: int
    disk: int
    processes: int
    output_limit: int
    resume: bool
    reuse: bool
    shard: str | None
    fail_under: str | None
    max_errors: int | None
    baseline: Path | None
    fail_on: str | None
    log_level: str
    given: frozenset[str]
    """Names of the options that were set by flag, environment or ini, not left to default."""

    def __post_init__(self) -> None:
        """Have secrets redacted in all output, wherever the settings come from."""
        for option in OPTIONS:
            value = getattr(self, option.field)
            if option.secret and value is not None:
                object.__setattr__(self, option.field, Secret(value))
                hide([value])
        hide(passwords_in([self.base_url, *self.sos_url]))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.public().items())
        return f"Settings({shown})"

    @property
    def params(self) -> dict[str, Any]:
        """The request's parameters besides the prompt; they are part of its cache key."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            **({"structured": True} if self.structured else {}),
            **(self.extra_body or {}),
        }

    @property
    def prices(self) -> Prices | None:
        """The prices of tokens; None if not given."""
        if self.price_input is None or self.price_output is None:
            return None
        from pytest_shelleval.models.money import Prices

        return Prices(self.price_input, self.price_output)

    @property
    def limits(self) -> Limits:
        """The limits of one sandbox."""
        from pytest_shelleval.sandboxes.base import Limits

        return Limits(self.memory, self.disk, self.processes, self.output_limit)

    @property
    def sandbox_spec(self) -> SandboxSpec:
        """Which sandboxes to use."""
        from pytest_shelleval.sandboxes.base import SandboxSpec

        return SandboxSpec(
            kind=self.sandbox,
            limits=self.limits,
            image=self.sandbox_image,
            rootfs=self.rootfs,
            network=self.network,
            sos_urls=self.sos_url,
            sos_named=any(name.startswith("sos-") for name in self.given),
            sos_token=self.sos_token,
            sos_permits=self.sos_permits,
        )

    @property
    def policy(self) -> ExecutionPolicy:
        """How tasks are executed."""
        from pytest_shelleval.core.execution import ExecutionPolicy

        return ExecutionPolicy(
            steps="shared" if self.steps == "shared" else "separate",
            strict_setup=self.strict_setup,
            command_timeout=self.command_timeout,
            setup_timeout=self.setup_timeout,
            executions=self.executions,
        )

    def public(self) -> dict[str, Any]:
        """All settings but secrets, as JSON values."""
        values: dict[str, Any] = {}
        for option in OPTIONS:
            if not option.secret:
                value = getattr(self, option.field)
                if isinstance(value, Path):
                    value = str(value)
                values[option.field] = list(value) if isinstance(value, tuple) else value
        if self.base_url:
            values["base_url"] = redacted(self.base_url)
        values["sos_url"] = [redacted(url) for url in self.sos_url]
        return values
