"""Finds ``{"command": "..."}`` in a reply, even in invalid JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pytest_shelleval.models.shelltext import has_balanced_quotes, is_placeholder, tidy

# Anchored on the key, not on the brace: parsing every object would be quadratic in bad text.
_OPENING = r"(?<![$'\"\\])\{"  # not of ${command}, nor of JSON quoted in a command
_KEY = re.compile(
    rf"(?:(?:{_OPENING}|,)\s*[\"'“”]|{_OPENING}\s*)command[\"'“”]?\s*:\s*", re.IGNORECASE
)
_CLOSING = {'"': '"', "'": "'", "“": "”", "`": "`"}
_QUOTES = {closing: re.compile(rf"\\.|{closing}", re.DOTALL) for closing in _CLOSING.values()}
_NEXT_KEY = r",\s*[\"'“][A-Za-z_][\w .-]{0,60}[\"'”]\s*:"
_HALF_A_KEY = r",\s*[\"'“][A-Za-z_][\w .-]{0,60}[\"'”]?\Z"
# What may follow the closing quote. Each \s* is followed by something other than white space: else
# matching would be quadratic in a long run of blanks.
_END = re.compile(rf"\s*(?:\}}|,\s*\}}|{_NEXT_KEY}|{_HALF_A_KEY}|\]|,\s*\]|```|\Z)")
_SURE_END = re.compile(rf"\s*(?:{_NEXT_KEY}|(?:,\s*)?\}}[\]}} \t]*(?:\r?\n|\Z|```|<))")
_NOTHING_MORE = re.compile(r"\s*(?:```|\Z)")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "/": "/", "`": "`"}
_MOST_CANDIDATES = 64


def find_json_command(
    text: str, passed_over: Sequence[tuple[int, int]] = ()
) -> tuple[str | None, str, str | None]:
    """The first valid ``command`` of a JSON object in *text*: ``(command, rule, fault)``.

    *passed_over* are spans where JSON is part of a command. Without a command, *fault* says what was
    wrong with the first JSON that had the key, and is None when none had. The rule is ``json``, or
    ``json-repaired`` when the text is not valid JSON but can be read in one way only: inner quotes
    that are not escaped, single quotes, an unquoted key. It is ``open-json`` when the text ends after
    the string, with no closing brace: the string's last quote may have been one of the command's.
    """
    fault: str | None = None
    keys = []
    for key in _KEY.finditer(text):
        if not any(start <= key.start() < end for start, end in passed_over):
            keys.append(key)
        if len(keys) > _MOST_CANDIDATES:
            break
    for number, key in enumerate(keys[:_MOST_CANDIDATES]):
        stop = keys[number + 1].start() if number + 1 < len(keys) else len(text)
        value, rule, this_fault = _value(text, key.end(), stop)
        if value is not None:
            command = tidy(value)
            if not command:
                this_fault = "the command in the JSON is empty"
            elif is_placeholder(command):
                this_fault = "the JSON has the prompt's placeholder instead of a command"
            else:
                return command, rule, None
        fault = fault or this_fault
    return None, "none", fault


def _value(text: str, start: int, stop: int) -> tuple[str | None, str, str | None]:
    """The string that begins at *start*: ``(value, rule, fault)``."""
    if text.startswith('"""', start):
        end = text.find('"""', start + 3)
        if end > 0:
            return text[start + 3 : end], "json-repaired", None
    closing = _CLOSING.get(text[start : start + 1])
    if closing is None:
        if start >= len(text):
            return None, "none", "the JSON is cut off"
        return None, "none", "the command in the JSON is not a string"
    first, loose = True, -1
    for quote in _QUOTES[closing].finditer(text, start + 1):
        if quote[0] != closing:
            continue
        end, after = quote.start(), quote.end()
        if first and _END.match(text, after):
            plain = closing == '"' and "}" in text[after : after + 1000]
            rule = "json" if plain else _repair_rule(text, after)
            return _unescape(text[start + 1 : end]), rule, None
        first = False
        if end >= stop:
            break
        if _SURE_END.match(text, after):
            return _repaired(text[start + 1 : end], "json-repaired")
        if loose < 0 and _END.match(text, after):
            loose = end
    if loose >= 0:
        return _repaired(text[start + 1 : loose], _repair_rule(text, loose + 1))
    return None, "none", "the JSON is cut off before the end of its command"


def _repair_rule(text: str, after: int) -> str:
    return "open-json" if _NOTHING_MORE.match(text, after) else "json-repaired"


def _repaired(raw: str, rule: str) -> tuple[str | None, str, str | None]:
    value = _unescape(raw)
    if has_balanced_quotes(value):
        return value, rule, None
    return None, "none", "the JSON is broken: its quotes can't be told from the command's"


def _unescape(raw: str) -> str:
    try:
        value = str(json.loads(f'"{raw}"', strict=False))
    except ValueError:  # escapes that JSON does not have, as in \\d: they belong to the command
        value = _ESCAPE.sub(_one_escape, raw)
    # \b and \f were meant for the command (\b of a regular expression): nobody types a backspace.
    return value.replace("\b", "\\b").replace("\f", "\\f")


def _one_escape(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) == 5:
        return chr(int(escape[1:], 16))
    return _ESCAPED.get(escape, match[0])
