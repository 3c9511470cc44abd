"""Resolves options to settings.

A flag beats the environment, which beats the ini file, which beats the default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.settings.settings import Settings
from pytest_shelleval.settings.table import OPTIONS, Option


def resolve(
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    ini: Callable[[str], Any],
    directory: Path,
) -> Settings:
    """Combine *flags* (by :attr:`Option.key`), *environment* and *ini* into settings.

    Paths are relative to *directory*. Raises UserError that names the option, where it was set, and
    what is expected.
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
    """Check options that depend on each other. Raises UserError."""
    prices = [name for name in ("price_input", "price_output") if values[name] is not None]
    if len(prices) == 1 or (values["max_cost"] is not None and not prices):
        raise UserError(
            "--shelleval-price-input and --shelleval-price-output go together, and "
            "--shelleval-max-cost needs them: give both, per million tokens"
        )
    extra_body = values["extra_body"] or {}
    if values["max_cost"] is not None:
        from pytest_shelleval.models.money import check_limited

        check_limited({"max_tokens": values["max_tokens"], **extra_body})
    taken = {"model", "messages", "stream", "n"} & extra_body.keys()
    if taken:
        raise UserError(
            f"--shelleval-extra-body: {', '.join(sorted(taken))} can't be set there; leave it out"
        )


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """*arguments* of a command line, with ``***`` for the values of secret options and in URLs."""
    secret = {option.flag for option in OPTIONS if option.secret}
    shown: list[str] = []
    for number, argument in enumerate(arguments):
        flag, equals, _ = argument.partition("=")
        if number and arguments[number - 1] in secret:
            shown.append("***")
        elif flag in secret and equals:
            shown.append(f"{flag}=***")
        else:
            shown.append(re.sub(r"(?<=://)[^/@\s]+@", "***@", argument))
    return shown


def _raw(
    option: Option,
    flags: Mapping[str, Any],
    environment: Mapping[str, str],
    ini: Callable[[str], Any],
) -> tuple[str, Any]:
    """The place where *option* was set (empty if nowhere), and its value, not yet parsed."""
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
    """Whether this run of pytest evaluates anything: a dataset, or commands to execute.

    Raises UserError if a model is named without a dataset, or the other way round.
    """
    if settings.dataset:
        if not settings.model and settings.phase != "execution":
            raise UserError(
                "--shelleval-model is missing: name a model that the server knows, or mock, oracle "
                "or noop; or --shelleval-phase=execution to run the commands of an earlier inference. "
                "To check the dataset alone: shelleval validate DATASET"
            )
        return True
    if settings.phase == "execution" and flags.get("shelleval_phase") is not None:
        return True
    if flags.get("shelleval_model"):
        raise UserError("--shelleval-model does nothing without --shelleval-dataset")
    return False
