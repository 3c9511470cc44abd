"""A model behind an OpenAI-compatible server. Imports openai: import this module only when needed."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, cast
from urllib.parse import urlsplit

import openai

from pytest_shelleval.core.errors import GenerationError, InferenceAborted, UserError
from pytest_shelleval.models.base import Reply, Request, ServerFault
from pytest_shelleval.models.throttle import Throttle

_PUBLIC = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # the client insists on one, servers of one's own do not look
_CONNECT_TIMEOUT = 10.0
_LONGEST_BACKOFF = 60.0
_LONGEST_RETRY_AFTER = 300.0
_RETRIES_BEFORE_FIRST_ANSWER = 2
_RETRIED = frozenset({408, 409, 429})
_TOO_MANY = frozenset({429, 503, 529})
_FATAL = {
    401: "check the API key (OPENAI_API_KEY or --shelleval-api-key)",
    403: "check what the API key may do, and the model's name (--shelleval-model)",
    404: "check the model's name (--shelleval-model) and the base URL (--shelleval-base-url), "
    "which for most servers ends in /v1",
}


class ChatModel:
    """Asks a server for chat completions, with retries, over one set of connections.

    Tried again, after growing pauses with jitter or as long as ``Retry-After`` says (300 s at most):
    status 408, 409, 429 and 5xx, lost connections, time-outs, and answers of status 200 that are no
    completion (cut JSON, a web page, an error object, no choices). Until the server has answered
    once, a connection that can't be made is tried 2 more times only. 429 and 503 also lower the
    number of requests in flight for a while.

    *timeout* is wall seconds for one request, *backoff* the first pause in seconds; each further
    pause is twice as long, those after a 429 four times (limits count by the minute).

    Raises UserError for a base URL that is none, and for the public endpoint without a key.
    """

    def __init__(
        self,
        name: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 5,
        backoff: float = 0.5,
    ) -> None:
        self.name = name
        self.base_url, self._key = _address(base_url, api_key)
        self._timeout = timeout
        self._max_retries = max_retries
        self._backoff = backoff
        self._client: openai.AsyncOpenAI | None = None
        self._throttle = Throttle()
        self._answered = False  # by anything at all
        self._served = False  # with a completion

    async def generate(self, request: Request) -> Reply:
        """Ask, and ask again where that may help.

        Raises GenerationError (as ServerFault where other requests will fare no better), and
        InferenceAborted for status 401, 403 and 404; a 403 after the server has served other
        requests is this one's own (moderation does that).
        """
        attempts = 0
        while True:
            attempts += 1
            ticket = await self._throttle.enter()
            try:
                reply = await self._ask(request)
                self._throttle.succeed()
                self._served = True
                reply.attempts = attempts
                return reply
            except _Failure as caught:
                failure = caught
                if failure.too_many:
                    self._throttle.complain(ticket, failure.wait or 0.0)
            finally:
                self._throttle.leave()
            if failure.fatal:
                raise InferenceAborted(failure.reason)
            retries = self._max_retries
            if not self._answered and failure.is_connection:
                retries = min(retries, _RETRIES_BEFORE_FIRST_ANSWER)
            if not failure.retry or attempts > retries:
                raise self._error(failure, attempts)
            await asyncio.sleep(self._pause(failure, attempts))

    async def aclose(self) -> None:
        """Close the connections. A later request opens new ones, in another event loop if need be."""
        client, self._client = self._client, None
        self._throttle = Throttle()
        if client is not None:
            await client.close()

    def _pause(self, failure: _Failure, attempts: int) -> float:
        if failure.wait is not None:
            return failure.wait + random.uniform(0, min(1.0, self._backoff))  # not all at once
        first = self._backoff * (4 if failure.status == 429 else 1)
        doubled: float = first * 2 ** (attempts - 1)
        return min(_LONGEST_BACKOFF, doubled) * random.uniform(0.75, 1.25)

    def _error(self, failure: _Failure, attempts: int) -> GenerationError:
        reason = failure.reason if attempts == 1 else f"{failure.reason} ({attempts} attempts)"
        if failure.shared or (failure.is_connection and not self._answered):
            return ServerFault(reason, attempts=attempts, unreachable=failure.is_connection)
        return GenerationError(reason, attempts=attempts)

    async def _ask(self, request: Request) -> Reply:
        """One request. Raises _Failure."""
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._key,
                base_url=self.base_url,
                max_retries=0,
                timeout=openai.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_TIMEOUT)),
            )
        params = {name: value for name, value in request.params.items() if value is not None}
        create = self._client.chat.completions.with_raw_response.create
        try:
            # The client's own time-out is for each read; a body that trickles in would escape it.
            response = await asyncio.wait_for(
                create(model=self.name, messages=cast(Any, request.messages), extra_body=params),
                self._timeout,
            )
            body = response.http_response.content
            kind = response.http_response.headers.get("content-type", "")
        except (openai.APITimeoutError, asyncio.TimeoutError) as error:
            if _never_connected(error):
                raise self._unreachable(error) from error
            reason = f"no answer from {self.base_url} within {self._timeout:g} s"
            raise _Failure(reason, retry=True, is_connection=True) from error
        except openai.APIConnectionError as error:
            if _never_connected(error):
                raise self._unreachable(error) from error
            self._answered = True
            reason = f"{self.base_url} dropped the connection: {_why(error)}"
            raise _Failure(reason, retry=True) from error
        except openai.APIStatusError as error:
            self._answered = True
            raise self._status_failure(error) from error
        self._answered = True
        return _reply(body, kind, self.base_url)

    def _unreachable(self, error: BaseException) -> _Failure:
        reason = f"can't connect to {self.base_url}: {_why(error)}; is the server running?"
        return _Failure(reason, retry=True, is_connection=True, shared=True)

    def _status_failure(self, error: openai.APIStatusError) -> _Failure:
        status = error.status_code
        said, code = _server_message(error.body)
        said = said.replace(self._key, "***") if len(self._key) > len(_NO_KEY) else said
        reason = f"{self.base_url} answered {status}" + (f": {said}" if said else "")
        failure = _Failure(reason, status=status, too_many=status in _TOO_MANY)
        if status in _FATAL and not (status == 403 and self._served):
            failure.reason = f"{reason}; {_FATAL[status]} (model {self.name!r})"
            failure.fatal = True
        elif code == "insufficient_quota":
            failure.shared = True
        elif status in _RETRIED or status >= 500:
            failure.retry = failure.shared = True
            failure.wait = _retry_after(error.response.headers)
            if failure.wait is not None and failure.wait > _LONGEST_RETRY_AFTER:
                failure.reason = f"{reason}; it asks to wait {failure.wait:.0f} s"
                failure.retry, failure.wait = False, None
        elif status in (400, 422):
            failure.shared = True
        return failure


@dataclass(eq=False)
class _Failure(Exception):  # noqa: N818 - internal; becomes one of the project's errors
    """Why one request brought no reply."""

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


def _address(base_url: str | None, api_key: str | None) -> tuple[str, str]:
    """The base URL and the key to use."""
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or _PUBLIC).strip().rstrip("/")
    key = (api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if not usable:
        raise UserError(f"the base URL must look like http://localhost:8000/v1, not {url!r}")
    if not key and parts.hostname == urlsplit(_PUBLIC).hostname:
        raise UserError(
            "no API key: set OPENAI_API_KEY, or give the --shelleval-base-url of a server of your "
            "own, which needs none"
        )
    if not key.isascii() or not key.isprintable():
        raise UserError("the API key (OPENAI_API_KEY) holds characters that no key has")
    return url, key or _NO_KEY


def _never_connected(error: BaseException) -> bool:
    names = {type(each).__name__ for each in (error.__cause__, error.__context__)}
    return bool(names & {"ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"})


def _why(error: BaseException) -> str:
    """The innermost cause that says anything, in one line."""
    said = type(error).__name__
    inner: BaseException | None = error
    while inner is not None:
        if str(inner).strip() and not isinstance(inner, openai.APIConnectionError):
            said = str(inner)
        elif not isinstance(inner, openai.APIConnectionError):
            said = type(inner).__name__
        inner = inner.__cause__
    return " ".join(said.split())[:200]


def _server_message(body: object) -> tuple[str, str | None]:
    """What an error's body says, in one line, and its code."""
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


def _retry_after(headers: Mapping[str, str]) -> float | None:
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


def _reply(body: bytes, kind: str, url: str) -> Reply:
    """The reply in a body of status 200. Raises _Failure for one that is no completion."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        if "html" in kind:
            reason = f"{url} answered with a web page; is the base URL right?"
        else:
            reason = f"{url} answered with broken JSON: {' '.join(str(error).split())[:100]}"
        raise _Failure(reason, retry=True, shared="html" in kind) from error
    choices = data.get("choices") if isinstance(data, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        if isinstance(data, dict) and data.get("error"):
            said, code = _server_message(data)
            quota = code == "insufficient_quota"
            raise _Failure(f"{url} answered with an error: {said}", retry=not quota, shared=True)
        raise _Failure(f"{url} answered without any choice", retry=True)
    choice = choices[0]
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    finish = choice.get("finish_reason")
    return Reply(
        text=_text(message.get("content")) or _text(message.get("refusal")),
        reasoning=reasoning if isinstance(reasoning, str) else None,
        finish_reason=finish if isinstance(finish, str) else None,
        usage=_usage(data.get("usage")),
    )


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
    return {name: count for name, count in counts.items() if isinstance(count, int)}
