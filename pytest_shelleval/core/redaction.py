"""Secrets stay out of everything that is written and said: keys, tokens, passwords in addresses.

A server may send a key back in a message, and a message ends up in files, logs and reports. So what is
secret is registered once, by value, and taken out wherever a text of foreign origin may leave: errors
of ours, lines of JSON, debug.log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
# Stand-ins for a key, as servers of one's own take them, are no secrets but words.
_SHORTEST = 8
_secrets: dict[str, None] = {}
_pattern: re.Pattern[str] | None = None


class Secret(str):
    """A key or token: a string but for its repr, which is what tracebacks show of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(HIDDEN)


def is_needed() -> bool:
    """Whether anything is secret."""
    return _pattern is not None


def hide(values: Iterable[str | None]) -> None:
    """Take *values* for secrets from now on, in this process; those under 8 characters are left."""
    global _pattern
    for value in values:
        for each in {value or "", (value or "").strip()}:
            if len(each) >= _SHORTEST:
                _secrets[each] = None
    if _secrets:
        longest_first = sorted(_secrets, key=len, reverse=True)
        _pattern = re.compile("|".join(map(re.escape, longest_first)))


def passwords_in(addresses: Iterable[str | None]) -> list[str]:
    """The passwords that URLs carry before their ``@``, as they stand and decoded."""
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
