"""The web application: SoS's protocol, endpoint by endpoint.

Paths, fields, status codes and texts are those of SoS 0.0.7, so that its clients work unchanged. It
differs where SoS is wrong:

- A session is no terminal: no stages of 2 seconds, no Ctrl-D, nothing typed into a command; any
  number of lines, tabs and carriage returns; no history expansion, no ``pipefail``, no colours;
  the output is unchanged, trailing white space and control characters included.
- ``exit 3`` answers ``exited: true, exit_code: 3`` and runs nothing after it. A command that kills or
  replaces the shell gets the same kind of answer, not a 500.
- A status can't be forged by printing a prompt; no reply belongs to an earlier command.
- On a full server ``start`` still waits, but unknown ids and double starts are answered at once, and
  a client that disconnects loses its place.
- The items of a setup run one by one, each by itself; the first that fails ends the setup.
- A failed start leaves nothing behind. Lists never wait for a busy sandbox.
- A sandbox is stopped and removed ``timeout`` seconds after its last use, not after its start; a
  command that runs longer is ended, with a 504.
- When the server ends, all of its sandboxes end.

Additions to the protocol: ``GET /healthz``, open to all, with ``server``, ``max_sandboxes`` and
``free``; a bearer token; and for exec two more fields of a request, ``timeout`` (seconds; a time-out
is then answered with 200, ``timed_out: true, exit_code: null``) and ``cwd`` (standalone), and of a
reply ``timed_out, truncated, limit, duration`` and ``directory``, the session's directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytest_shelleval.sandboxes.server.hosts import AllowedHosts
from pytest_shelleval.sandboxes.server.registry import Entry, ProviderFactory, Refused, Registry
from pytest_shelleval.version import __version__

SERVER = "pytest-shelleval"
"""The name of this server in ``/healthz``."""
MOST_BYTES = 2 << 20
"""The most bytes of a request's body, as in SoS."""

_log = logging.getLogger(__name__)
_Handler = Callable[[Request], Awaitable[Response]]
_REQUIRED = object()


def create_app(
    provider_factory: ProviderFactory,
    *,
    max_sandboxes: int = 10,
    timeout: float = 600.0,
    token: str | None = None,
    host: str = "127.0.0.1",
    allow_hosts: Sequence[str] = (),
) -> Starlette:
    """The application that serves sandboxes of the providers from *provider_factory*.

    *provider_factory* is called in a thread with an image's name; it may return one provider for
    several images. At most *max_sandboxes* run at a time. *timeout*, in seconds, limits a command and
    the time that an unused sandbox is kept. With *token*, every request except ``/healthz`` must have
    it. The Host header of requests must name loopback, *host* or one of *allow_hosts*.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        registry = Registry(provider_factory, max_sandboxes=max_sandboxes, timeout=timeout)
        app.state.registry = registry
        reaper = asyncio.create_task(registry.reap_forever())
        try:
            yield
        finally:
            reaper.cancel()
            await registry.close()

    def route(path: str, handler: Callable[..., Any], method: str) -> Route:
        return Route(path, _guarded(handler, token), methods=[method])

    routes = [
        Route("/healthz", _healthz, methods=["GET"]),
        Route("/sandboxes", _Methods(POST=_guarded(_create, token), GET=_guarded(_list, token))),
        route("/sandboxes/{id}/start", _start, "POST"),
        route("/sandboxes/{id}/exec", _exec, "POST"),
        route("/sandboxes/{id}/stop", _stop, "POST"),
        route("/sandboxes/{id}/trajectory", _trajectory, "GET"),
        route("/sandboxes/{id}/trajectory/formatted", _formatted, "GET"),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(AllowedHosts, host=host, others=allow_hosts)
    app.add_middleware(AccessLog)
    return app


class AccessLog:
    """ASGI middleware: logs a line for each answered request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            client = (scope.get("client") or ("-",))[0]
            seconds = time.monotonic() - started
            # as JSON, because a path may contain anything
            path = json.dumps(scope["path"])
            _log.info("%s %s %s %d %.3f s", client, scope["method"], path, status, seconds)


class _Methods:
    """Several methods of one path, as an ASGI application; other methods get a 405."""

    def __init__(self, **handlers: _Handler) -> None:
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._handlers.get(method)
        if handler is None:
            allowed = ",".join(self._handlers)
            response: Response = Response(status_code=405, headers={"Allow": allowed})
        else:
            response = await handler(request)
        await response(scope, receive, send)


def _guarded(handler: Callable[..., Any], token: str | None) -> _Handler:
    """*handler* with the bearer token checked and refusals turned into replies."""

    async def guarded(request: Request) -> Response:
        if token is not None:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                text = "A bearer token is needed (--shelleval-sos-token)"
                return PlainTextResponse(text, 401, {"WWW-Authenticate": "Bearer"})
        try:
            response: Response = await handler(request, request.app.state.registry)
            return response
        except Refused as refusal:
            return PlainTextResponse(refusal.text, refusal.status)
        except ClientDisconnect:
            return PlainTextResponse("The client has gone", 499)

    return guarded


async def _body(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise Refused(415, "Expected request with `Content-Type: application/json`")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BYTES:
            raise Refused(413, "Failed to buffer the request body: length limit exceeded")
    try:
        body = json.loads(bytes(data))
        json.dumps(body, ensure_ascii=False).encode()  # no reply could hold a lone surrogate
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"Failed to parse the request body as JSON: {error}") from None
    if not isinstance(body, dict):
        raise _wrong("expected an object")
    return body


def _wrong(what: str) -> Refused:
    return Refused(422, f"Failed to deserialize the JSON body into the target type: {what}")


def _field(body: dict[str, Any], name: str, kind: Any, default: Any = _REQUIRED) -> Any:
    value = body.get(name)
    if name not in body or (value is None and default is not _REQUIRED):
        if default is _REQUIRED:
            raise _wrong(f"missing field `{name}`")
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(f"{name}: invalid type")
    return value


async def _create(request: Request, registry: Registry) -> Response:
    body = await _body(request)
    image = _field(body, "image", str)
    setup = _field(body, "setup_commands", list)
    if not all(isinstance(item, str) for item in setup):
        raise _wrong("setup_commands: invalid type, expected strings")
    return JSONResponse({"id": registry.create(image, setup).id})


async def _list(request: Request, registry: Registry) -> Response:
    return JSONResponse([entry.described() for entry in registry.entries.values()])


async def _start(request: Request, registry: Registry) -> Response:
    await registry.start(_entry(request, registry), request.is_disconnected)
    return Response()


async def _exec(request: Request, registry: Registry) -> Response:
    body = await _body(request)
    command = _field(body, "command", str)
    standalone = _field(body, "standalone", bool, False)
    seconds = _field(body, "timeout", (int, float), None)
    if seconds is not None and not 0 < seconds <= 7 * 86400:
        raise _wrong("timeout: a number of seconds above 0 is expected")
    directory = _field(body, "cwd", str, None)
    entry = _entry(request, registry)
    answer = await registry.run(
        entry, command, standalone=standalone, timeout=seconds, directory=directory
    )
    return JSONResponse(answer)


async def _stop(request: Request, registry: Registry) -> Response:
    body = await _body(request)
    remove = _field(body, "remove", bool, False)
    await registry.stop(_entry(request, registry), remove=remove)
    return Response()


async def _trajectory(request: Request, registry: Registry) -> Response:
    entry = _entry(request, registry)
    return JSONResponse(
        {
            "sandbox_id": entry.id,
            "command_count": len(entry.trajectory),
            "trajectory": entry.trajectory,
        }
    )


async def _formatted(request: Request, registry: Registry) -> Response:
    steps = _entry(request, registry).trajectory
    text = "".join(f"$ {step['command']}\n{step['result']['output']}\n" for step in steps)
    return PlainTextResponse(text)


async def _healthz(request: Request) -> Response:
    registry: Registry = request.app.state.registry
    return JSONResponse(
        {
            "status": "ok",
            "server": SERVER,
            "version": __version__,
            "max_sandboxes": registry.max_sandboxes,
            "free": registry.max_sandboxes - registry.held,
        }
    )


def _entry(request: Request, registry: Registry) -> Entry:
    return registry.entry(request.path_params["id"])
