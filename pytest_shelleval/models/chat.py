"""A model behind an OpenAI-compatible server. Imports openai: import this module only when needed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import openai

from pytest_shelleval.core.errors import (
    GenerationError,
    InferenceAborted,
    InferencePaused,
    UserError,
)
from pytest_shelleval.core.redaction import hide, passwords_in, redacted
from pytest_shelleval.models.answers import Failure, read_reply, retry_after, server_message
from pytest_shelleval.models.base import Reply, Request, ServerFault
from pytest_shelleval.models.money import Account, estimate_tokens, longest_reply, reply_limit
from pytest_shelleval.models.pace import Pace
from pytest_shelleval.models.refusals import Refusals
from pytest_shelleval.models.throttle import Throttle

if TYPE_CHECKING:
    import ssl

# The HTTP library of the openai package.
_HTTP: Any = import_module("httpx2" if int(openai.__version__.partition(".")[0]) >= 3 else "httpx")
_PUBLIC = "https://api.openai.com/v1"
_NO_KEY = "no-key"  # the client requires one, self-hosted servers ignore it
_CONNECT_TIMEOUT = 10.0
_LONGEST_BACKOFF = 60.0
_REQUESTS_PER_LANE = 4
_RETRIES_BEFORE_FIRST_ANSWER = 2
_RETRIED = frozenset({408, 409, 429})
_PROXIES = frozenset({"all_proxy", "http_proxy", "https_proxy"})
_TOO_MANY = frozenset({429, 503, 529})
_log = logging.getLogger(__name__)
_FATAL = {
    401: "check the API key (OPENAI_API_KEY or --shelleval-api-key)",
    402: "the account has too little credit: add credit, or lower --shelleval-max-tokens",
    403: "check the permissions of the API key, and the model's name (--shelleval-model)",
    404: "check the model's name (--shelleval-model) and the base URL (--shelleval-base-url), "
    "which for most servers ends in /v1",
    405: "check the base URL (--shelleval-base-url), which for most servers ends in /v1",
    410: "the server no longer has this: check the model's name (--shelleval-model) and the base URL "
    "(--shelleval-base-url)",
}


@dataclass(eq=False)
class _Lane:
    """A client with few requests: its pool of connections gets slow with many."""

    client: openai.AsyncOpenAI
    in_flight: int = 0


class ChatModel:
    """Asks a server for chat completions, with retries, over one set of connections.

    It retries, after growing pauses with jitter or as long as ``Retry-After`` says: status 408, 409,
    429 and 5xx, lost connections, time-outs, and answers of status 200 that are no completion (cut
    JSON, a web page, an error object, no choices). Until the server has answered once, a connection
    that can't be made is retried only 2 times. 429, 503 and 529 also lower the number of requests in
    flight for a while. A parameter that the server refuses is renamed or left out from then on, with
    a line in ``warnings``.

    *timeout* is wall seconds for one request, *backoff* the first pause in seconds; each further
    pause is twice as long, and pauses after a 429 are four times longer (limits count by the
    minute). *rpm* and *tpm* bound requests and tokens per minute. When the server asks to wait longer
    than *max_wait* seconds, the phase is paused.

    Raises UserError for an invalid base URL, for the public endpoint without a key, and for a proxy
    in the environment that can't be used.
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
        rpm: int | None = None,
        tpm: int | None = None,
        max_wait: float = 300.0,
    ) -> None:
        self.name = name
        self.base_url, self.query, self.api_key = _address(base_url, api_key)
        _check_proxies()
        hide([self.api_key if self.api_key != _NO_KEY else None, *passwords_in([self.base_url])])
        self.warnings: list[str] = []
        """What the user should know about the run, a line each."""
        self._timeout = timeout
        self._max_retries = max_retries
        self._backoff = backoff
        self._max_wait = max_wait
        self._lanes: list[_Lane] = []
        self._tls: ssl.SSLContext | None = None  # shared: reading the certificates takes 0.1 s
        self._throttle = Throttle()
        self._pace = Pace(rpm, tpm, max_wait)
        self._refusals = Refusals(self.warnings.append)
        self._paused: InferencePaused | None = None
        self._wake = asyncio.Event()
        self._answered = False  # whether the server has answered anything at all
        self._served = False  # whether it has sent a completion

    async def generate(self, request: Request) -> Reply:
        """Ask the server, with retries.

        Raises GenerationError (as ServerFault if other requests are likely to fail too), and
        InferenceAborted for status 401 to 405 and 410; but a 403 after the server has served other
        requests concerns only this one (moderation does that). InferencePaused when the server asks
        to wait longer than *max_wait*.
        """
        account = request.account or Account(request.messages, request.params)
        account.refund()  # nothing was sent yet
        attempts = refused = 0
        while True:
            attempts += 1
            if account.bounded and reply_limit(self.body(request)) is None:
                raise InferenceAborted(
                    f"{self.base_url} takes no limit on the tokens of a reply, so that "
                    "--shelleval-max-cost can't be enforced; leave it out"
                )
            await account.reserve()
            await self._throttle.enter()
            try:
                if self._paused is not None:
                    raise InferencePaused(str(self._paused))
                taken = await self._pace.enter(
                    estimate_tokens(request.messages), longest_reply(request.params)
                )
                account.sent()
                reply = await self._ask(request)
                self._pace.used(taken, reply.usage)
                self._throttle.succeed()
                self._served = True
                reply.attempts = attempts
                return reply
            except Failure as caught:
                failure = caught
                if failure.unbilled:
                    account.refund()
                _log.warning("%s: request %d: %s", name_of(request), attempts, failure.reason)
                if failure.too_many:
                    wait = failure.wait or 0.0
                    self._throttle.complain(wait if wait <= self._max_wait else 0.0)
            finally:
                self._throttle.leave()
            if failure.fatal:
                raise InferenceAborted(failure.reason)
            if failure.wait is not None and failure.wait > self._max_wait:
                raise self._pause_all(failure)
            if failure.refused:
                refused += 1  # another parameter each time, so the loop ends
                continue
            retries = self._max_retries
            if not self._answered and failure.is_connection:
                retries = min(retries, _RETRIES_BEFORE_FIRST_ANSWER)
            if not failure.retry or attempts - refused > retries:
                raise self._error(failure, attempts)
            pause = self._pause(failure, attempts - refused)
            _log.info("%s: asked again in %.1f s", name_of(request), pause)
            with contextlib.suppress(asyncio.TimeoutError):  # unless the phase is paused meanwhile
                await asyncio.wait_for(self._wake.wait(), pause)

    async def aclose(self) -> None:
        """Close the connections. A later request opens new ones, also in another event loop."""
        lanes, self._lanes = self._lanes, []
        self._throttle = Throttle()
        self._paused, self._wake = None, asyncio.Event()
        for lane in lanes:
            await lane.client.close()

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON of one request, without parameters that the server has refused."""
        fields = self._refusals.apply(request.params)
        return {"model": self.name, "messages": list(request.messages), **fields}

    def _pause_all(self, failure: Failure) -> InferencePaused:
        self._paused = InferencePaused(
            f"{failure.reason}; it asks to wait {failure.wait:.0f} s, longer than "
            f"--shelleval-max-wait={self._max_wait:g}"
        )
        self._wake.set()
        return self._paused

    def _lane(self) -> _Lane:
        """The lane with the fewest requests; a new one if all are full."""
        lane = min(self._lanes, key=lambda each: each.in_flight, default=None)
        if lane is None or lane.in_flight >= _REQUESTS_PER_LANE:
            if self._tls is None:
                self._tls = _HTTP.create_ssl_context()
            client = openai.AsyncOpenAI(
                api_key=self.api_key,
                base_url=self.base_url,
                max_retries=0,
                timeout=openai.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_TIMEOUT)),
                http_client=openai.DefaultAsyncHttpxClient(verify=self._tls, params=self.query),
            )
            lane = _Lane(client)
            self._lanes.append(lane)
        return lane

    def _pause(self, failure: Failure, attempts: int) -> float:
        if failure.wait is not None:
            return failure.wait + random.uniform(0, min(1.0, self._backoff))  # not all at once
        first = self._backoff * (4 if failure.status == 429 else 1)
        doubled: float = first * 2 ** (attempts - 1)
        return min(_LONGEST_BACKOFF, doubled) * random.uniform(0.75, 1.25)

    def _error(self, failure: Failure, attempts: int) -> GenerationError:
        reason = failure.reason if attempts == 1 else f"{failure.reason} ({attempts} attempts)"
        if failure.shared or (failure.is_connection and not self._answered):
            return ServerFault(reason, attempts=attempts, unreachable=failure.is_connection)
        return GenerationError(reason, attempts=attempts)

    async def _ask(self, request: Request) -> Reply:
        """One request. Raises Failure."""
        body = self.body(request)
        lane = self._lane()
        lane.in_flight += 1
        try:
            # The client's own timeout applies to each read, so a slow body would never time out.
            response = await asyncio.wait_for(
                lane.client.post("/chat/completions", cast_to=_HTTP.Response, body=body),
                self._timeout,
            )
        except (openai.APITimeoutError, asyncio.TimeoutError) as error:
            if _never_connected(error):
                raise self._unreachable(error) from error
            reason = f"no answer from {self.base_url} within {self._timeout:g} s"
            raise Failure(reason, retry=True, is_connection=True) from error
        except openai.APIConnectionError as error:
            if _never_connected(error):
                raise self._unreachable(error) from error
            self._answered = True
            reason = f"{self.base_url} dropped the connection: {_why(error)}"
            raise Failure(reason, retry=True) from error
        except openai.APIStatusError as error:
            self._answered = True
            self._pace.heed(error.response.headers)
            raise self._status_failure(error, request, body) from error
        finally:
            lane.in_flight -= 1
        self._answered = True
        self._pace.heed(response.headers)
        kind = response.headers.get("content-type", "")
        reply = read_reply(response.content, kind, self.base_url)
        reply.sent_params = self._refusals.differ(request.params)
        reply.request_id = response.headers.get("x-request-id")
        return reply

    def _unreachable(self, error: BaseException) -> Failure:
        reason = f"can't connect to {self.base_url}: {_why(error)}; is the server running?"
        return Failure(reason, retry=True, is_connection=True, shared=True, unbilled=True)

    def _status_failure(
        self, error: openai.APIStatusError, request: Request, sent: Mapping[str, Any]
    ) -> Failure:
        status = error.status_code
        said, code = server_message(error.body)
        said = redacted(said)
        reason = f"{self.base_url} answered {status}" + (f": {said}" if said else "")
        unbilled = (status < 500 and status != 408) or status == 501 or status in _TOO_MANY
        failure = Failure(reason, status, too_many=status in _TOO_MANY, unbilled=unbilled)
        if status in _FATAL and not (status == 403 and self._served):
            failure.reason = f"{reason}; {_FATAL[status]} (model {self.name!r})"
            failure.fatal = True
        elif code == "insufficient_quota":
            failure.shared = True
        elif status in _RETRIED or status >= 500:
            failure.retry = failure.shared = True
            failure.wait = retry_after(error.response.headers)
        elif status in (400, 422):
            failure.shared = True
            fields = {name: sent[name] for name in sent if name not in ("model", "messages")}
            failure.refused = self._refusals.learn(error.body, said, request.params, fields)
        return failure


def name_of(request: Request) -> str:
    """The request's name in logs: task and sample."""
    return f"{request.task.task_id} sample {request.sample}"


def _address(base_url: str | None, api_key: str | None) -> tuple[str, str, str]:
    """The base URL without its query, the query, and the key to use."""
    url = (base_url or os.environ.get("OPENAI_BASE_URL") or _PUBLIC).strip()
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
        raise UserError(
            "the API key (OPENAI_API_KEY or --shelleval-api-key) has characters that are not "
            "printable ASCII"
        )
    bare = urlunsplit(parts._replace(path=parts.path.rstrip("/"), query="", fragment=""))
    return bare, parts.query, key or _NO_KEY


def _check_proxies() -> None:
    """Check that the HTTP library accepts the environment's proxies. Raises UserError."""
    try:
        _HTTP.Client(verify=False).close()
    except (ImportError, ValueError, _HTTP.InvalidURL) as error:
        names = [name for name in os.environ if name.lower() in _PROXIES and os.environ[name]]
        raise UserError(
            f"the environment names a proxy that can't be used ({', '.join(sorted(names))}): {error}; "
            "fix that, or change or unset the variable"
        ) from error


def _never_connected(error: BaseException) -> bool:
    names = {type(each).__name__ for each in (error.__cause__, error.__context__)}
    return bool(names & {"ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol"})


def _why(error: BaseException) -> str:
    """The message of the innermost cause that has one, in one line."""
    said = type(error).__name__
    inner: BaseException | None = error
    while inner is not None:
        if str(inner).strip() and not isinstance(inner, openai.APIConnectionError):
            said = str(inner)
        elif not isinstance(inner, openai.APIConnectionError):
            said = type(inner).__name__
        inner = inner.__cause__
    return " ".join(said.split())[:200]
