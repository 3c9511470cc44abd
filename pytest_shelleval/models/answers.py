"""Reading what a chat server sends: replies, errors, and how long to wait."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from pytest_shelleval.core.commands import PROVIDER_ERROR
from pytest_shelleval.models.base import Reply
from pytest_shelleval.models.tool_calls import read_tool_calls


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - internal; becomes one of the project's errors
    """Why one request got no reply."""

    reason: str
    status: int | None = None
    retry: bool = False
    fatal: bool = False
    """Every other request would fail the same way."""
    shared: bool = False
    """Every other request is likely to fail the same way."""
    is_connection: bool = False
    """Refused, or no answer in time."""
    too_many: bool = False
    wait: float | None = None
    """Seconds that the server asked for."""
    unbilled: bool = False
    """The server did not get the request, or refused to process it."""
    refused: bool = False
    """A parameter was refused, and is no longer sent."""


def server_message(body: object) -> tuple[str, str | None]:
    """The message of an error's body, in one line, and its code."""
    code = None
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            code = inner.get("code") or inner.get("type")
            body = inner.get("message") or inner.get("detail") or json.dumps(inner, default=str)
        else:
            body = inner
    said = " ".join(str(body or "").split())
    return (said if len(said) <= 300 else said[:297] + "..."), code if isinstance(
        code, str
    ) else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from ``retry-after-ms`` or ``Retry-After``."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def read_reply(body: bytes, kind: str, url: str) -> Reply:
    """The reply in a body of status 200. Raises Failure for one that is no completion."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        if "html" in kind:
            reason = f"{url} answered with a web page; is the base URL right?"
        else:
            reason = f"{url} answered with broken JSON: {' '.join(str(error).split())[:100]}"
        raise Failure(reason, retry=True, shared="html" in kind) from error
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        if isinstance(data, dict) and data.get("error"):
            raise _fault(data["error"], url)
        raise Failure(f"{url} answered without choices", retry=True)
    choice = choices[0]
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    finish = choice.get("finish_reason")
    text = _text(message.get("content")) or _text(choice.get("text"))
    raw, command = read_tool_calls(message.get("tool_calls"))
    fault = choice.get("error")
    if not text and not raw:
        fault = fault or message.get("error") or data.get("error")
    if fault or finish == PROVIDER_ERROR:
        raise _fault(fault or "its reply was cut short, with finish_reason 'error'", url)
    if command:
        text = f"{text}\n{raw}".lstrip()
    elif text:
        command = None
    return Reply(
        text=text or raw or _text(message.get("refusal")),
        command=command,
        reasoning=reasoning if isinstance(reasoning, str) else None,
        finish_reason=finish if isinstance(finish, str) else None,
        usage=_usage(data.get("usage")),
    )


def _fault(error: object, url: str) -> Failure:
    """The failure for an error object in an answer of status 200: the server's fault."""
    said, code = server_message({"error": error})
    retry = code != "insufficient_quota"
    return Failure(f"{url} answered with an error: {said}", retry=retry, shared=True)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # parts, as some servers send them
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _usage(usage: object) -> dict[str, int] | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    counts = {
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "cached_tokens": prompt.get("cached_tokens") if isinstance(prompt, dict) else None,
        "reasoning_tokens": (
            completion.get("reasoning_tokens") if isinstance(completion, dict) else None
        ),
    }
    found = {name: count for name, count in counts.items() if isinstance(count, int) and count >= 0}
    written, reasoning = found.get("output_tokens", 0), found.get("reasoning_tokens", 0)
    if written:  # some vendors omit the reasoning here, but not in the total
        total = usage.get("total_tokens")
        if isinstance(total, int):
            written = max(written, total - found.get("input_tokens", total))
        found["output_tokens"] = written if reasoning <= written else written + reasoning
    return found
