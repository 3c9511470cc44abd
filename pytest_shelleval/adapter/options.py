"""Declares the options to pytest's parser, and reads them from its configuration."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pytest_shelleval.settings.resolve import resolve
from pytest_shelleval.settings.settings import Settings
from pytest_shelleval.settings.table import OPTIONS


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


def from_config(config: pytest.Config) -> Settings:
    """The settings of this run of pytest. Raises UserError, see :func:`resolve`."""
    return resolve(vars(config.option), os.environ, config.getini, config.invocation_params.dir)
