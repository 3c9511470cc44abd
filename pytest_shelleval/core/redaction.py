"""Keeps secrets out of all output: keys, tokens, passwords in URLs.

A server may send a key back in a message, and messages end up in files, logs and reports. So each
secret is registered once, by value, and redacted wherever text from outside may be written: our
errors, lines of JSON, debug.log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
# Characters. Shorter values are dummy keys, as self-hosted servers accept them, and may be plain words.
_SHORTEST = 8
_secrets: dict[str, None] = {}
_pattern: re.Pattern[str] | None = None


class Secret(str):
    """A key or token: a string whose repr, which tracebacks show, hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def is_needed() -> bool:
    """Whether any secret is registered."""
    return _pattern is not None


def hide(values: Iterable[str | None]) -> None:
    """Register *values* as secrets of this process; those under 8 characters are ignored."""
    global _pattern
    for value in values:
        for each in {value or "", (value or "").strip()}:
            if len(each) >= _SHORTEST:
                _secrets[each] = None
    if _secrets:
        longest_first = sorted(_secrets, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, longest_first)))


def passwords_in(addresses: Iterable[str | None]) -> list[str]:
    """The passwords in URLs (before their ``@``), both as written and decoded."""
    found = []
    for address in addresses:
        try:
            password = urlsplit(address or "").password
        except ValueError:
            continue
        if password:
            found += [password, unquote(password)]
    return found


def redacted(text: str) -> str:
    """*text* with ``***`` in place of each secret."""
    return text if _pattern is None else _pattern.sub(HIDDEN, text)
