"""The one table of options: each row is a flag, an environment variable and an ini key at once.

A flag beats the environment, which beats the ini file, which beats the default.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_shelleval.core.errors import UserError

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.core.execution import ExecutionPolicy
    from pytest_shelleval.models.money import Prices
    from pytest_shelleval.sandboxes.base import Limits
    from pytest_shelleval.sandboxes.choice import Wish


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table."""

    name: str
    """As in ``--shelleval-NAME``."""
    default: str
    """As a user would write it; empty for none."""
    help: str
    """One line."""
    parse: Callable[[str], Any] = str
    """From text to value; raises ValueError whose message says what is expected."""
    many: bool = False
    """May be given several times; environment and ini take one a line."""
    switch: bool = False
    """Takes no value."""
    secret: bool = False
    """Never read from ``SHELLEVAL_*`` or the ini file, never written to any file."""

    @property
    def flag(self) -> str:
        """``--shelleval-output-dir``."""
        return f"--shelleval-{self.name}"

    @property
    def key(self) -> str:
        """``shelleval_output_dir``: the ini key, and the name in pytest's ``config.option``."""
        return f"shelleval_{self.field}"

    @property
    def field(self) -> str:
        """``output_dir``: the name in :class:`Settings`."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str | None:
        """``SHELLEVAL_OUTPUT_DIR``; None for secrets."""
        return None if self.secret else self.key.upper()


def _whole(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise ValueError(f"a whole number of at least {minimum} is expected")
        return number

    return parse


def _optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_or_none(text: str) -> Any:
        return None if text.lower() == "none" else parse(text)

    return parse_or_none


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError("a number of at least 0, or none, is expected")
    return number


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|m|h)?", text.strip())
    seconds = float(match[1]) * {"m": 60, "h": 3600}.get(match[2], 1) if match else 0.0
    if seconds <= 0:
        raise ValueError("seconds, more than 0, are expected (also as 90s, 5m, 1h)")
    return seconds


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    size = int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " ")) if match else 0
    if size <= 0:
        raise ValueError("a size is expected, such as 256M or 1G")
    return size


def _limit(text: str) -> str:
    from pytest_shelleval.report.gates import parse_limit

    parse_limit(text)
    return text


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)} is expected")
        return text

    return parse


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError('a JSON object is expected, such as {"top_p": 0.9}')
    return value


def _positive(text: str) -> float:
    number = _number(text)
    if not number:
        raise ValueError("a number more than 0 is expected")
    return number


def _price(text: str) -> float:
    try:
        return _number(text)
    except ValueError:
        raise ValueError("a number of at least 0 is expected") from None


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("a value is expected")
    return text


OPTIONS: tuple[Option, ...] = (
    Option(
        "dataset",
        "",
        "tasks to run: a JSONL, JSON, CSV or Parquet file, a saved Arrow folder, or a name on the "
        "Hugging Face hub; may be given several times",
        _text,
        many=True,
    ),
    Option("split", "test", "split of a dataset that has splits", _text),
    Option(
        "model",
        "",
        "who writes the commands: mock, oracle, noop, or a model that the server knows; may be "
        "given several times",
        _text,
        many=True,
    ),
    Option(
        "phase",
        "both",
        "inference: only ask the model; execution: only run the commands of an earlier inference; "
        "or both",
        _one_of("inference", "execution", "both"),
    ),
    Option("output-dir", "evaluation_results", "folder of all files that a run writes", _text),
    Option("commands-file", "", "the model's commands (default: OUTPUT_DIR/commands.jsonl)", _text),
    Option("max-samples", "", "take only the first N rows of each dataset", _whole(1)),
    Option(
        "temperature",
        "0.6",
        "sampling temperature; none leaves it out of the request",
        _optional(_number),
    ),
    Option(
        "max-tokens",
        "2000",
        "limit on the tokens of a reply; none leaves it out of the request",
        _optional(_whole(1)),
    ),
    Option(
        "base-url",
        "",
        "URL of an OpenAI-compatible server (default: $OPENAI_BASE_URL, else OpenAI's)",
        _text,
    ),
    Option(
        "api-key",
        "",
        "API key (better: $OPENAI_API_KEY, which other users of the machine can't see)",
        _text,
        secret=True,
    ),
    Option(
        "sandbox",
        "auto",
        "where commands run: local, docker, sos; auto takes what works here",
        _one_of("auto", "local", "docker", "sos"),
    ),
    Option("sos-port", "3000", "port of a SoS server on this machine", _whole(1)),
    Option(
        "sos-url", "", "URL of a SoS server (default: http://localhost:SOS_PORT)", _text, many=True
    ),
    Option(
        "sos-token",
        "",
        "bearer token of a SoS server that wants one (better: $SHELLEVAL_SOS_TOKEN)",
        _text,
        secret=True,
    ),
    Option(
        "sos-permits",
        "",
        "sandboxes started at a time on each SoS server, over all workers: at most its "
        "--max-sandboxes (default: what a server of ours says, else 10)",
        _whole(1),
    ),
    Option(
        "sandbox-image",
        "deathbyknowledge/shellm-sandbox:latest",
        "image of docker and sos sandboxes",
        _text,
    ),
    Option("samples", "1", "commands to ask for per task, for pass@k", _whole(1)),
    Option("inference-concurrency", "16", "model requests in flight at most", _whole(1)),
    Option("request-timeout", "120", "seconds for one request to the model", _seconds),
    Option(
        "extra-body",
        "",
        'more fields of the request, as JSON: {"top_p": 0.9, "top_k": 40}; null leaves one out',
        _object,
    ),
    Option(
        "structured",
        "",
        "ask for a JSON schema (response_format), or what of it the server takes",
        switch=True,
    ),
    Option("rpm", "", "requests per minute at most", _whole(1)),
    Option("tpm", "", "tokens per minute at most, of prompts and replies", _whole(1)),
    Option(
        "max-wait",
        "300",
        "seconds; when the server asks to wait longer (a daily quota), inference stops and can go "
        "on later",
        _seconds,
    ),
    Option("price-input", "", "price of a million input tokens, in US dollars", _price),
    Option("price-output", "", "price of a million output tokens, in US dollars", _price),
    Option(
        "max-cost",
        "",
        "stop inference before it can cost more than this many US dollars; needs both prices",
        _positive,
    ),
    Option(
        "inference",
        "direct",
        "direct: ask and wait; batch: OpenAI's Batch API, half the price and up to a day",
        _one_of("direct", "batch"),
    ),
    Option(
        "refresh",
        "",
        "ask the model again also for what commands.jsonl already holds",
        switch=True,
    ),
    Option("prompt", "", "file with the user prompt; {task} and {any_column} are filled in", _text),
    Option("system-prompt", "", "file with the system prompt, filled in likewise", _text),
    Option(
        "rootfs",
        "",
        "local: a folder or tar (docker export) to run on in place of the host's files",
        _text,
    ),
    Option("network", "", "docker: give sandboxes a network", switch=True),
    Option(
        "pool-size",
        "",
        "sandboxes made ahead, per worker (default: local 1, docker 2, sos 1)",
        _whole(0),
    ),
    Option(
        "steps",
        "separate",
        "separate: setup, command and condition start afresh, as in SoS; shared: the command goes "
        "on in the setup's shell, the condition where it ended",
        _one_of("separate", "shared"),
    ),
    Option(
        "strict-setup",
        "",
        "any setup command that fails is an error, not only the last",
        switch=True,
    ),
    Option(
        "command-timeout", "60", "seconds for a command; past it the model has failed", _seconds
    ),
    Option("setup-timeout", "300", "seconds for a setup; past it the task is an error", _seconds),
    Option("memory", "1G", "memory of a sandbox", _bytes),
    Option("disk", "256M", "what may be written in a sandbox", _bytes),
    Option("processes", "256", "processes and threads in a sandbox", _whole(8)),
    Option("output-limit", "1M", "output kept per step", _bytes),
    Option(
        "fail-under",
        "",
        "gate: exit status 0 when at least this fraction of the tasks passes, else 1; lower:0.8 "
        "asks it of the lower end of the 95 % interval",
        _limit,
    ),
    Option(
        "max-errors", "", "gate: exit status 1 when more tasks than this end as errors", _whole(0)
    ),
    Option("baseline", "", "an earlier run, its folder or results.jsonl, to compare with", _text),
    Option(
        "fail-on",
        "",
        "gate on the baseline: regression (a task that passed fails now) or significant-regression "
        "(the pass rate fell by more than chance explains)",
        _one_of("regression", "significant-regression"),
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user chose. Fields are the options of the table, in its order; paths are absolute."""

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
    command_timeout: float
    setup_timeout: float
    memory: int
    disk: int
    processes: int
    output_limit: int
    fail_under: str | None
    max_errors: int | None
    baseline: Path | None
    fail_on: str | None
    given: frozenset[str]
    """Names of the options that were set by flag, environment or ini, not left to default."""

    @property
    def params(self) -> dict[str, Any]:
        """What is asked of the model beside the prompt; part of what makes a request the same."""
        return {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            **({"structured": True} if self.structured else {}),
            **(self.extra_body or {}),
        }

    @property
    def prices(self) -> Prices | None:
        """The prices of tokens, None where none are given."""
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
    def wish(self) -> Wish:
        """Which sandboxes to use."""
        from pytest_shelleval.sandboxes.choice import Wish

        return Wish(
            kind=self.sandbox,
            limits=self.limits,
            image=self.sandbox_image,
            pool_size=self.pool_size,
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
        return values


def add_options(parser: pytest.Parser) -> None:
    """Declare every option of the table, as flag and ini key."""
    group = parser.getgroup("shelleval", "shelleval: evaluate a model that writes shell commands")
    for option in OPTIONS:
        text = option.help + (f" (default: {option.default})" if option.default else "")
        text = text.replace("%", "%%")
        if option.switch:
            group.addoption(
                option.flag, dest=option.key, action="store_true", default=None, help=text
            )
        else:
            group.addoption(
                option.flag,
                dest=option.key,
                action="append" if option.many else "store",
                default=None,
                metavar=option.field.upper(),
                help=text,
            )
        if not option.secret:
            kind: Any = "bool" if option.switch else "linelist" if option.many else "string"
            default = None if option.switch else [] if option.many else ""
            parser.addini(option.key, option.help, type=kind, default=default)


def resolve(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    ini: Callable[[str], Any],
    directory: Path,
) -> Settings:
    """The settings that *flags* (by :attr:`Option.key`), *environment* and *ini* give together.

    Relative paths start from *directory*. Raises UserError that names the option, where it was set,
    and what is expected.
    """
    values: dict[str, Any] = {}
    given: set[str] = set()
    for option in OPTIONS:
        where, raw = _raw(option, flags, environment, ini)
        if where:
            given.add(option.name)
        values[option.field] = _parsed(option, where, raw)
    values["base_url"] = values["base_url"] or environment.get("OPENAI_BASE_URL") or None
    values["api_key"] = values["api_key"] or environment.get("OPENAI_API_KEY") or None
    values["sos_token"] = values["sos_token"] or environment.get("SHELLEVAL_SOS_TOKEN") or None
    values["sos_url"] = values["sos_url"] or (f"http://localhost:{values['sos_port']}",)
    values["output_dir"] = directory / values["output_dir"]
    commands_file = values["commands_file"]
    values["commands_file"] = (
        directory / commands_file if commands_file else values["output_dir"] / "commands.jsonl"
    )
    for name in ("prompt", "system_prompt", "rootfs", "baseline"):
        values[name] = directory / values[name] if values[name] else None
    _check_together(values)
    return Settings(**values, given=frozenset(given))


def _check_together(values: Mapping[str, Any]) -> None:
    """See that options that need each other are there. Raises UserError."""
    prices = [name for name in ("price_input", "price_output") if values[name] is not None]
    if len(prices) == 1 or (values["max_cost"] is not None and not prices):
        raise UserError(
            "--shelleval-price-input and --shelleval-price-output go together, and "
            "--shelleval-max-cost needs them: give both, per million tokens"
        )
    taken = {"model", "messages", "stream", "n"} & (values["extra_body"] or {}).keys()
    if taken:
        raise UserError(
            f"--shelleval-extra-body: {', '.join(sorted(taken))} can't be set there; leave it out"
        )


def from_config(config: pytest.Config) -> Settings:
    """The settings of this run of pytest. Raises UserError, see :func:`resolve`."""
    return resolve(vars(config.option), os.environ, config.getini, config.invocation_params.dir)


def _raw(
    option: Option,
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    ini: Callable[[str], Any],
) -> tuple[str, Any]:
    """Where *option* was set (empty: nowhere) and to what, still as text."""
    flag = flags.get(option.key)
    if flag is not None:
        return option.flag, flag
    if option.variable is None:
        return "", None
    text = environment.get(option.variable)
    if text:
        return option.variable, text.splitlines() if option.many else text
    try:
        value = ini(option.key)
    except (TypeError, ValueError) as error:
        raise UserError(f"{option.key} in the ini file: {error}") from error
    if value is None or value in ("", []):
        return "", None
    return f"{option.key} in the ini file", value


def _parsed(option: Option, where: str, raw: Any) -> Any:
    try:
        if option.switch:
            return _switch(raw)
        if option.many:
            texts: Sequence[str] = raw or ()
            return tuple(option.parse(text.strip()) for text in texts if text.strip())
        text = raw if where else option.default
        return option.parse(text) if text or where else None
    except ValueError as error:
        shown = "***" if option.secret else repr(raw)
        raise UserError(f"{where}: {error}, not {shown}") from error


def _switch(raw: Any) -> bool:
    if raw is None or isinstance(raw, bool):
        return bool(raw)
    text = str(raw).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise ValueError("true or false is expected")


def is_active(settings: Settings, flags: Mapping[str, Any]) -> bool:
    """Whether this run of pytest evaluates anything: there is a dataset, or commands to execute.

    Raises UserError when a model is named but no dataset, or the other way round.
    """
    if settings.dataset:
        if not settings.model and settings.phase != "execution":
            raise UserError(
                "--shelleval-model is missing: name a model that the server knows, or mock, oracle "
                "or noop; or --shelleval-phase=execution to run the commands of an earlier inference"
            )
        return True
    if settings.phase == "execution" and flags.get("shelleval_phase") is not None:
        return True
    if flags.get("shelleval_model"):
        raise UserError("--shelleval-model does nothing without --shelleval-dataset")
    return False


def readme_table() -> str:
    """The table of options as the README shows it, in Markdown."""
    lines = ["| option | default | |", "|---|---|---|"]
    for option in OPTIONS:
        default = f"`{option.default}`" if option.default else ""
        meaning = option.help.replace("|", "\\|")
        lines.append(f"| `{option.flag}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"
