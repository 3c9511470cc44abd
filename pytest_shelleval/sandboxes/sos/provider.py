"""Hands out sandboxes of SoS servers, and makes sure that every one is stopped."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.sos import state
from pytest_shelleval.sandboxes.sos.api import Api, Health, Refused, Unreachable
from pytest_shelleval.sandboxes.sos.fleet import DEFAULT_PERMITS, Fleet, Server
from pytest_shelleval.sandboxes.sos.sandbox import SosSandbox

_STOP_PAUSES = (0.5, 2.0)
_SPARE_SECONDS = 120.0
_END_SECONDS = 60.0


@dataclass(slots=True)
class _Held:
    """A sandbox with the permit to return when it is stopped."""

    sandbox: SosSandbox
    server: Server
    permit: int
    made: float


class SosProvider:
    """Hands out sandboxes of one server or several, each used once, some of them created ahead."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        image: str,
        token: str | None = None,
        pool_size: int = 1,
        permits: int | None = None,
        workers: int = 1,
        state_directory: Path | None = None,
        limits: Limits | None = None,
        start_timeout: float = 600.0,
        patience: float = 60.0,
    ) -> None:
        """No server is contacted before the first sandbox is requested.

        *permits*: concurrent sandboxes on each server, over all *workers* together; None: the limit
        that our own server reports, else 10. Workers with the same *state_directory* share the
        permits as needed; otherwise each uses its part. That folder also lists sandboxes that a
        killed worker has not stopped, for :func:`sweep`. *limits*: only that on output is enforced
        here. *start_timeout*: seconds for one start, which may pull an image or wait for room.
        *patience*: seconds without an answer of any server before acquiring fails.
        """
        self._image = image
        self._limit = permits
        self._workers = max(1, workers)
        self._pool_size = pool_size
        self._folder = state_directory
        self._output_limit = (limits or Limits()).output
        self._start_timeout = start_timeout
        self._patience = patience
        self._token = token
        self._api = Api(list(urls), token)
        self._fleet = Fleet(urls, self._api, self._permits_of)
        self._lock = threading.Lock()
        self._journal: state.Journal | None = None
        self._held: dict[str, _Held] = {}
        self._spares: deque[Future[_Held | None]] = deque()
        self._makers: ThreadPoolExecutor | None = None
        self._stoppers: ThreadPoolExecutor | None = None

    @property
    def info(self) -> Mapping[str, Any]:
        """Kind, image and addresses."""
        urls = [server.url for server in self._fleet.servers]
        return {"kind": "sos", "image": self._image, "urls": urls}

    def acquire(self) -> SosSandbox:
        """A fresh sandbox of the least busy server that answers.

        Waits while all permits are in use. Raises SandboxUnavailable for a wrong address, token or
        image, and SandboxError when no server answers within *patience*, or the sandbox does not
        start.
        """
        self._open()
        held = self._take_spare()
        if held is None:
            held = self._make_patiently()
        self._fill_pool()
        return held.sandbox

    def _open(self) -> None:
        with self._lock:
            if self._journal is None:
                if self._folder is not None and self._folder.is_dir():
                    sweep(self._folder, self._token)
                self._journal = state.Journal(self._folder)
            if self._stoppers is None:
                self._makers = ThreadPoolExecutor(max(1, min(4, self._pool_size)), "sos-make")
                self._stoppers = ThreadPoolExecutor(4, "sos-stop")

    def _permits_of(self, url: str, health: Health) -> state.Permits:
        most = self._limit or health.max_sandboxes or DEFAULT_PERMITS
        share = max(1, most // self._workers)
        # Spares never use the last permit of a worker's part, so no worker can starve another.
        self._pool_size = min(self._pool_size, share - 1)
        if self._folder is not None:
            return state.SharedPermits(self._folder, url, most)
        return state.OwnPermits(share)

    # --- making

    def _make_patiently(self) -> _Held:
        last = time.monotonic()
        while True:
            try:
                held = self._make_one()
            except Unreachable as error:
                if time.monotonic() - last > self._patience:
                    raise SandboxError(f"No SoS server can be used: {error}") from error
                time.sleep(min(1.0, self._fleet.next_try()))
                continue
            if held is not None:
                return held
            dead = self._fleet.all_dead()
            if not dead:
                last = time.monotonic()  # all permits are in use, and will be returned
                with self._fleet.changed:
                    self._fleet.changed.wait(0.05)
                continue
            if time.monotonic() - last > self._patience:
                raise SandboxError(f"No SoS server answers: {dead}")
            time.sleep(min(1.0, self._fleet.next_try()))

    def _make_one(self) -> _Held | None:
        """A sandbox, or None when there is no server with a permit now."""
        taken = self._fleet.take()
        if taken is None:
            return None
        server, permit = taken
        identity = ""
        try:
            assert self._journal is not None
            identity = self._api.create(server.url, self._image)
            self._journal.created(server.url, identity)
            self._api.start(server.url, identity, self._start_timeout)
            sandbox = self._sandbox(server, identity)
            sandbox.prepare()
        except BaseException as error:
            if identity:
                self._stop(server.url, identity)
            self._fleet.give_back(server, permit)
            if isinstance(error, Unreachable) or (
                isinstance(error, Refused) and error.status >= 500
            ):
                server.failed(str(error))
                raise Unreachable(str(error)) from error
            raise
        server.answered()
        held = _Held(sandbox, server, permit, time.monotonic())
        with self._lock:
            self._held[identity] = held
        return held

    def _sandbox(self, server: Server, identity: str) -> SosSandbox:
        return SosSandbox(
            self._api,
            server.url,
            identity,
            image=self._image,
            ours=server.health is not None and server.health.ours,
            output_limit=self._output_limit,
            stop=self._stop_later,
            failed=self._distrust,
        )

    # --- spares

    def _fill_pool(self) -> None:
        with self._lock:
            if self._makers is not None:
                while len(self._spares) < self._pool_size:
                    self._spares.append(self._makers.submit(self._make_spare))

    def _make_spare(self) -> _Held | None:
        try:
            return self._make_one()
        except SandboxError:
            return None  # acquire() will fail with the same reason

    def _take_spare(self) -> _Held | None:
        while True:
            with self._lock:
                if not self._spares:
                    return None
                spare = self._spares.popleft()
            held = spare.result()
            if held is None:
                continue
            if time.monotonic() - held.made < _SPARE_SECONDS and not held.server.failure:
                return held
            held.sandbox.close()

    def _distrust(self, sandbox: SosSandbox) -> None:
        """Discard the spares, because a server has just failed a sandbox."""
        with self._lock:
            spares = list(self._spares)
            self._spares.clear()
        for spare in spares:
            spare.add_done_callback(_close_spare)

    # --- stopping

    def _stop_later(self, sandbox: SosSandbox) -> None:
        with self._lock:
            stoppers = self._stoppers
        if stoppers is not None:
            with contextlib.suppress(RuntimeError):
                stoppers.submit(self._stop_held, sandbox)
                return
        self._stop_held(sandbox)

    def _stop_held(self, sandbox: SosSandbox) -> None:
        with self._lock:
            held = self._held.pop(sandbox.id, None)
        self._stop(sandbox.url, sandbox.id)
        if held is not None:
            self._fleet.give_back(held.server, held.permit)

    def _stop(self, url: str, identity: str) -> bool:
        for pause in (*_STOP_PAUSES, 0.0):
            try:
                self._api.stop(url, identity)
            except SandboxError:
                time.sleep(pause)
            else:
                if self._journal is not None:
                    self._journal.stopped(identity)
                return True
        return False

    def close(self) -> None:
        """Stop every sandbox and wait, for a limited time, until that is done."""
        with self._lock:
            makers, self._makers = self._makers, None
            spares = list(self._spares)
            self._spares.clear()
        if makers is not None:
            makers.shutdown(wait=True, cancel_futures=True)
        for spare in spares:
            if not spare.cancelled():
                _close_spare(spare)
        with self._lock:
            left = [held.sandbox for held in self._held.values()]
        for sandbox in left:
            sandbox.close()
        with self._lock:
            stoppers, self._stoppers = self._stoppers, None
        if stoppers is not None:
            stoppers.shutdown(wait=True)
        journal, self._journal = self._journal, None
        if journal is not None:
            for identity, url in journal.live().items():
                with contextlib.suppress(SandboxError):
                    self._api.stop(url, identity)
                    journal.stopped(identity)
            journal.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._api.close()


def _close_spare(spare: Future[_Held | None]) -> None:
    if not spare.cancelled() and spare.exception() is None:
        held = spare.result()
        if held is not None:
            held.sandbox.close()


def sweep(state_directory: Path, token: str | None = None) -> int:
    """Stop the sandboxes of processes that are gone, by their journals; returns how many were stopped.

    A journal whose server does not answer is kept for a later sweep.
    """
    stopped = 0
    for path, live in state.abandoned(state_directory):
        api = Api(list(live.values()) or ["http://127.0.0.1"], token)
        failed = False
        for identity, url in live.items():
            try:
                api.stop(url, identity)
                stopped += 1
            except SandboxError:
                failed = True
        api.close()
        if not failed:
            path.unlink(missing_ok=True)
    return stopped
