"""Parameters that a server does not accept: learned from its refusals, once per run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

_SCHEMA: dict[str, Any] = {
    "type": "object",
    # longer than any real command; without a limit a small model fills the string up to max_tokens
    "properties": {"command": {"type": "string", "maxLength": 1000}},
    "required": ["command"],
    "additionalProperties": False,
}
_OTHER_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_UNSUPPORTED = re.compile(
    r"unsupported|not (?:be )?support|n't support|unrecogni[sz]ed|unknown|unexpected|not permitted"
    r"|not allowed|extra.forbidden|extra inputs|only the default|deprecated|incompatible"
    r"|not (?:available|compatible)|max_completion_tokens. instead",
    re.IGNORECASE,
)
_STRUCTURE = re.compile(
    r"response_format|json_?schema|json_object|maxLength|structured|guided|grammar", re.IGNORECASE
)


def _format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "shell_command", "strict": True, "schema": schema},
    }


def _unbounded(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "properties": {"command": {"type": "string"}}}


_STEPS: tuple[tuple[str, dict[str, Any] | None], ...] = (
    ("a JSON schema", _format(_SCHEMA)),
    ("a JSON schema without maxLength", _format(_unbounded(_SCHEMA))),
    ("any JSON object", {"type": "json_object"}),
    ("plain text", None),
)


class Refusals:
    """Parameters that one server does not accept, and what is sent instead.

    The parameter ``structured`` becomes a ``response_format``: a JSON schema, or a simpler form that
    the server accepts. *warn* gets one line for each refusal.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._dropped: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._step = 0

    def apply(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The fields to send for *params*, without those that are None."""
        fields: dict[str, Any] = {}
        for name, value in params.items():
            if name == "structured":
                shape = _STEPS[self._step][1]
                if value and shape is not None and "response_format" not in params:
                    fields["response_format"] = shape
            elif value is not None:
                name = self._renamed.get(name, name)
                if name not in self._dropped:
                    fields[name] = value
        return fields

    def differ(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        """The fields sent for *params*, if refusals have changed them; else None."""
        if not self._dropped and not self._renamed and not self._step:
            return None
        asked = Refusals(lambda _: None).apply(params)
        sent = self.apply(params)
        return sent if sent != asked else None

    def learn(
        self, body: object, said: str, params: Mapping[str, Any], sent: Mapping[str, Any]
    ) -> bool:
        """Learn from a 400 or 422 for *sent*; returns whether to ask again.

        *body* is the error's JSON, *said* its message in one line.
        """
        if self.apply(params) != sent:  # learned meanwhile from another request's refusal
            return True
        whole = f"{said} {json.dumps(body, default=str)}"
        if "response_format" in sent and params.get("structured") and _STRUCTURE.search(whole):
            # a server may know schemas but not this limit
            self._step += 2 if self._step == 0 and "maxLength" not in whole else 1
            self._warn(
                f"the server does not take this response_format ({said}); asking for "
                f"{_STEPS[self._step][0]} from here on"
            )
            return True
        if not _UNSUPPORTED.search(whole):
            return False
        name = _named(body, said, sent)
        if name is None:
            return False
        other = _OTHER_NAMES.get(name)
        if other is not None and other not in sent and name not in self._renamed.values():
            self._renamed[name] = other
            self._warn(f"the server does not take {name}: sent as {other} from here on ({said})")
        else:
            self._dropped.add(name)
            self._warn(
                f"the server does not take {name}={json.dumps(sent[name], default=str)[:60]}: left "
                f"out from here on ({said})"
            )
        return True


def _named(body: object, said: str, sent: Mapping[str, Any]) -> str | None:
    """The field of *sent* that the server refuses."""
    for place in _places(body):
        if place in sent:
            return place
    # the longest first: "max_completion_tokens" holds no "max_tokens", but others may overlap
    quoted = re.findall(r"['\"`]([A-Za-z_]\w*)['\"`]", said)
    words = re.findall(r"[A-Za-z_]\w*", said)
    return next((name for name in (*quoted, *words) if name in sent), None)


def _places(body: object) -> list[str]:
    """The fields that an error's JSON names: ``param`` (OpenAI), or the last of each ``loc`` (pydantic)."""
    if not isinstance(body, Mapping):
        return []
    inner = body.get("error", body)
    inner = inner if isinstance(inner, Mapping) else body
    found = [inner.get("param")]
    details = inner.get("detail") or body.get("detail")
    for detail in details if isinstance(details, list) else ():
        place = detail.get("loc") if isinstance(detail, Mapping) else None
        if isinstance(place, list) and place:
            found.append(place[-1])
    return [name for name in found if isinstance(name, str)]
