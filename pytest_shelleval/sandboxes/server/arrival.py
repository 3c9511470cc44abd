"""A time limit for requests to arrive, which uvicorn lacks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_log = logging.getLogger(__name__)
_Base: Any = AutoHTTPProtocol


def within(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, but it closes a connection if a request takes longer to arrive.

    The time runs from the request's first byte, or for the first request from the connection. The
    wait between two requests is left to uvicorn.
    """

    class Protocol(_Base):  # type: ignore[misc]
        _timer: asyncio.TimerHandle | None = None
        _earlier: Any = None
        """The exchange before the awaited one."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._await_request()

        def data_received(self, data: bytes) -> None:
            if self._timer is None:
                self._await_request()
            super().data_received(data)
            if self._timer is not None and self._has_arrived():
                self._stop_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _await_request(self) -> None:
            self._earlier = self.cycle
            self._timer = self.loop.call_later(seconds, self._time_is_up)

        def _has_arrived(self) -> bool:
            return self.cycle is not self._earlier and not self.cycle.more_body

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _time_is_up(self) -> None:
            self._timer = None
            if self._has_arrived():
                return
            if self.cycle is not None and not (
                self.cycle.more_body or self.cycle.response_complete
            ):
                self._await_request()  # not read before the earlier request is answered
                return
            client = (self.client or ("-",))[0]
            _log.info("%s closed: no complete request within %g s", client, seconds)
            self.transport.close()

    return Protocol
