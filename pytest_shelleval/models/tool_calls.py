"""Reads the command in a tool call: some servers return a model's reply in this form."""

from __future__ import annotations

import json
import shlex

from pytest_shelleval.models.shelltext import is_other_language, is_placeholder, tidy

_ARGUMENTS = ("command", "cmd", "script", "code", "input")
"""Names that shell tools give to the argument that is run; the first that is present counts."""


def read_tool_calls(calls: object) -> tuple[str, str | None]:
    """The raw text of *calls*, a message's ``tool_calls``, and the command in them.

    The raw text of a single call is its arguments; the command in them may be a string, a list of
    words, or a list of lines, and is None if not found. With several calls the answer is ambiguous:
    the command is empty. Without calls the raw text is empty.
    """
    found = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    if len(found) > 1:
        return json.dumps(found, ensure_ascii=False), ""
    return _read(found[0]) if found else ("", None)


def _read(call: dict[str, object]) -> tuple[str, str | None]:
    function, custom = call.get("function"), call.get("custom")
    arguments: object = None
    if isinstance(function, dict):
        arguments = function.get("arguments")
    elif isinstance(custom, dict):
        arguments = {"input": custom.get("input")}
    raw = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    try:
        values = json.loads(raw, strict=False)
    except (ValueError, RecursionError):
        return raw, None  # plain text, or broken JSON: left to the rules for text
    if not isinstance(values, dict):
        return raw if arguments else "", None
    given = next((values[name] for name in _ARGUMENTS if values.get(name)), None)
    command = tidy(_as_text(given))
    usable = command and not is_placeholder(command) and not is_other_language(command)
    return raw, command if usable else None


def _as_text(given: object) -> str:
    if isinstance(given, str):
        return given
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        return ""
    if len(given) == 1 or any(character.isspace() for character in given[0]):
        return "\n".join(given)  # lines: no program has a name with spaces
    return shlex.join(given)
