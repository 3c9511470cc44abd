"""Checks the host names of requests to a server.

Without this check, a web page could make the browser of a user of this machine send commands to a
server on loopback, through a domain name that resolves to loopback (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d*)?")


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address, can only mean this machine."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


class AllowedHosts:
    """ASGI middleware: answers 421 to a request whose Host header names another server."""

    def __init__(self, app: ASGIApp, host: str, others: Sequence[str] = ()) -> None:
        """Requests may name loopback, *host*, where the server listens, and *others*.

        If it listens on all addresses, they may also name any address, or this machine's host name.
        """
        self._app = app
        address = _address(host)
        self._everywhere = address is not None and address.is_unspecified
        names = [host, *others, *([socket.gethostname()] if self._everywhere else [])]
        self._names = {_canonical(name) for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"host"]
            if not self._is_allowed(given):
                from starlette.responses import PlainTextResponse

                shown = b", ".join(given).decode("latin-1")
                text = (
                    f"This server does not answer to the host {shown!r}. If that is its name, "
                    "start it with --allow-host=NAME"
                )
                await PlainTextResponse(text, 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _is_allowed(self, given: list[bytes]) -> bool:
        found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if found is None:
            return False
        host = _canonical((found[1] or found[2]).decode())
        known_address = self._everywhere and _address(host) is not None
        return known_address or is_loopback(host) or host in self._names


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _canonical(host: str) -> str:
    address = _address(host)
    return host.lower().rstrip(".") if address is None else str(address)
