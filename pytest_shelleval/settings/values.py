"""Parsers of option values; each raises ValueError with a message that says what is expected."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any


def whole(minimum: int) -> Callable[[str], int]:
    """Whole numbers of at least *minimum*."""

    def parse(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = minimum - 1
        if found < minimum:
            raise ValueError(f"a whole number of at least {minimum} is expected")
        return found

    return parse


def optional(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Whatever *parse* accepts, and ``none``, which is None."""

    def parse_or_none(text: str) -> Any:
        return None if text.lower() == "none" else parse(text)

    return parse_or_none


def automatic(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Whatever *parse* accepts, and ``auto``, which is None."""

    def parse_or_none(text: str) -> Any:
        return None if text.lower() == "auto" else parse(text)

    return parse_or_none


def number(text: str) -> float:
    """Numbers of at least 0."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise ValueError("a number of at least 0, or none, is expected")
    return found


def seconds(text: str) -> float:
    """Seconds, also as ``90s``, ``5m``, ``1h``."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|m|h)?", text.strip())
    found = float(match[1]) * {"m": 60, "h": 3600}.get(match[2], 1) if match else 0.0
    if found <= 0:
        raise ValueError("seconds, more than 0, are expected (also as 90s, 5m, 1h)")
    return found


def sandbox_kind(text: str) -> str:
    """Kinds of sandbox, and ``auto``."""
    from pytest_shelleval.sandboxes.registry import parse_kind

    return parse_kind(text)


def size(text: str) -> int:
    """Bytes, also as ``256M``, ``1G``."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    found = int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " ")) if match else 0
    if found <= 0:
        raise ValueError("a size is expected, such as 256M or 1G")
    return found


def limit(text: str) -> str:
    """A limit on the pass rate: ``0.8`` or ``lower:0.8``."""
    from pytest_shelleval.report.gates import parse_limit

    parse_limit(text)
    return text


def shard(text: str) -> str:
    """A shard: ``1/3`` to ``3/3``."""
    from pytest_shelleval.core.shards import parse_shard

    return str(parse_shard(text))


def one_of(*choices: str) -> Callable[[str], str]:
    """One of *choices*."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"one of {', '.join(choices)} is expected")
        return text

    return parse


def json_object(text: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError('a JSON object is expected, such as {"top_p": 0.9}')
    return value


def positive(text: str) -> float:
    """Numbers more than 0."""
    found = number(text)
    if not found:
        raise ValueError("a number more than 0 is expected")
    return found


def price(text: str) -> float:
    """US dollars, at least 0."""
    try:
        return number(text)
    except ValueError:
        raise ValueError("a number of at least 0 is expected") from None


def text(value: str) -> str:
    """Any text that is not blank."""
    if not value.strip():
        raise ValueError("a value is expected")
    return value
