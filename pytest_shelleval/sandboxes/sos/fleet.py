"""The servers of a run: finds the least busy one that answers, and decides when to retry a dead one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.sandboxes.sos.api import Api, Health, Unreachable
from pytest_shelleval.sandboxes.sos.state import Permits

DEFAULT_PERMITS = 10
"""The default of SoS's ``--max-sandboxes``; SoS has no way to ask for the actual value."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_HEALTH_SECONDS = 1.0


class Server:
    """One server as this process sees it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.health: Health | None = None
        self.permits: Permits | None = None
        self.held = 0
        """Permits that this process holds."""
        self.failure = ""
        """Why it is not used now; empty while it answers."""
        self.asked = 0.0
        self.again = 0.0
        """When to retry it, by the monotonic clock."""
        self._pause = _FIRST_PAUSE

    def failed(self, reason: str) -> None:
        """Stop using it for a while, longer every time."""
        self.failure = reason
        self.again = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def answered(self) -> None:
        """Call when it has worked: use it again without a pause."""
        self.failure = ""
        self._pause = _FIRST_PAUSE

    @property
    def busy(self) -> float:
        """The fraction of its sandboxes in use, as far as known."""
        most = (self.health.max_sandboxes if self.health else None) or DEFAULT_PERMITS
        free = self.health.free if self.health else None
        used = self.held if free is None else max(self.held, most - free)
        return used / most


class Fleet:
    """All servers, and permits for their sandboxes."""

    def __init__(
        self, urls: Sequence[str], api: Api, permits: Callable[[str, Health], Permits]
    ) -> None:
        self.servers = [Server(url.rstrip("/")) for url in dict.fromkeys(urls)]
        self._api = api
        self._permits = permits
        self._lock = threading.Lock()
        self.changed = threading.Condition()
        """Notified when a permit is returned."""

    def take(self) -> tuple[Server, int] | None:
        """The least busy usable server, with a permit; None when there is none."""
        now = time.monotonic()
        with self._lock:
            asked = [server for server in self.servers if server.again <= now or not server.failure]
            for server in asked:
                self._look(server, now)
            for server in sorted(asked, key=lambda each: each.busy):
                if server.failure or server.permits is None:
                    continue
                permit = server.permits.take()
                if permit is not None:
                    server.held += 1
                    return server, permit
        return None

    def _look(self, server: Server, now: float) -> None:
        several = len(self.servers) > 1 and server.health is not None and server.health.ours
        known = server.health is not None and not server.failure
        if known and not (several and now - server.asked > _HEALTH_SECONDS):
            return
        server.asked = now
        try:
            server.health = self._api.health(server.url)
        except Unreachable as error:
            server.failed(str(error))
            return
        if server.permits is None:
            server.permits = self._permits(server.url, server.health)
        server.failure = ""

    def give_back(self, server: Server, permit: int) -> None:
        """Return a permit, so that another sandbox can be started."""
        with self._lock:
            server.held -= 1
            if server.permits is not None:
                server.permits.give_back(permit)
        with self.changed:
            self.changed.notify_all()

    def all_dead(self) -> str:
        """Why no server can be used; empty if one can."""
        reasons = [server.failure for server in self.servers]
        return "; ".join(reasons) if all(reasons) else ""

    def next_try(self) -> float:
        """Seconds until the next retry of a server."""
        now = time.monotonic()
        left = [server.again - now for server in self.servers if server.failure]
        return max(0.02, min(left, default=0.1))


def permits_of(urls: Sequence[str], token: str | None, limit: int | None) -> int:
    """The most concurrent sandboxes of the servers at *urls* together, at most *limit* on each.

    A server that does not report its limit counts as SoS's default, one that does not answer as 0; the
    result is at least 1.
    """
    api, most = Api(list(urls), token), 0
    try:
        for url in dict.fromkeys(each.rstrip("/") for each in urls):
            with contextlib.suppress(Unreachable, SandboxUnavailable):
                most += limit or api.health(url).max_sandboxes or DEFAULT_PERMITS
    finally:
        api.close()
    return max(1, most)
