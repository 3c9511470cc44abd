"""The sandboxes of a server: permits, states, trajectories, removal of unused ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.execution import setup_script
from pytest_shelleval.core.sandbox import ExecResult, Sandbox, SandboxProvider

ProviderFactory = Callable[[str], SandboxProvider]
"""Returns the provider for an image, a new one or one that it shares."""
Status = Literal["created", "started", "exited", "stopped"]

_MOST_IDLE_IMAGES = 16
_MOST_UNSTARTED = 1000
_STOP_PATIENCE = 5.0
_T = TypeVar("_T")


class Refused(Exception):  # noqa: N818 - what happened
    """The request can't be met: an HTTP status and a text for the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass(slots=True, eq=False)
class Entry:
    """One sandbox of a client."""

    id: str
    image: str
    setup_commands: list[str]
    status: Status = "created"
    sandbox: Sandbox | None = None
    started: float = 0.0
    used: float = field(default_factory=time.monotonic)
    """When the last request ended, by the monotonic clock."""
    running: int = 0
    """Requests in progress."""
    trajectory: list[dict[str, Any]] = field(default_factory=list)
    standalone_code: int | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def described(self) -> dict[str, Any]:
        """The sandbox as shown in lists."""
        return {
            "id": self.id,
            "image": self.image,
            "setup_commands": " && ".join(self.setup_commands),
            "status": self.status,
            "session_command_count": len(self.trajectory),
            "last_standalone_exit_code": self.standalone_code,
        }


class Registry:
    """All sandboxes of a server. Runs in one event loop; blocking calls run in threads."""

    def __init__(self, factory: ProviderFactory, *, max_sandboxes: int, timeout: float) -> None:
        self.max_sandboxes = max_sandboxes
        self.timeout = timeout
        self.entries: dict[str, Entry] = {}
        self._factory = factory
        self._providers: dict[str, SandboxProvider] = {}  # the last used comes last
        self._choosing = asyncio.Lock()
        self._holders: set[Entry] = set()
        """Those with a permit."""
        self._permits = asyncio.Semaphore(max_sandboxes)
        # One for each sandbox, and some more to stop those that hang.
        self._threads = ThreadPoolExecutor(max_sandboxes + 4, "sandbox")
        self._closed = False

    @property
    def held(self) -> int:
        """Permits in use."""
        return len(self._holders)

    def create(self, image: str, setup_commands: list[str]) -> Entry:
        """A new sandbox, not started. Raises Refused when too many are not started."""
        if sum(each.status == "created" for each in self.entries.values()) >= _MOST_UNSTARTED:
            text = f"There are {_MOST_UNSTARTED} sandboxes that are not started: start or stop some"
            raise Refused(503, text)
        entry = Entry(str(uuid.uuid4()), image, setup_commands)
        self.entries[entry.id] = entry
        return entry

    def entry(self, identity: str) -> Entry:
        """The sandbox with that id. Raises Refused when there is none."""
        try:
            return self.entries[identity]
        except KeyError:
            raise Refused(404, "Sandbox not found") from None

    async def start(self, entry: Entry, gone: Callable[[], Any]) -> None:
        """Start *entry* as soon as there is a permit, and run its setup.

        *gone()*, awaited every second while there is none, says whether the client has disconnected.
        """
        with _Use(entry):
            async with entry.lock:
                if entry.status != "created":
                    raise Refused(400, "Sandbox already started")
                await self._take_permit(entry, gone)
                try:
                    await self._start(entry)
                except BaseException:
                    entry.status = "stopped"
                    await self._close(entry)
                    raise

    async def _take_permit(self, entry: Entry, gone: Callable[[], Any]) -> None:
        while True:
            try:
                await asyncio.wait_for(self._permits.acquire(), 1)
                break
            except asyncio.TimeoutError:
                if await gone():
                    raise Refused(499, "The client has gone") from None
        self._holders.add(entry)

    async def _start(self, entry: Entry) -> None:
        try:
            provider = await self._provider(entry.image)
            entry.sandbox = sandbox = await self._call(provider.acquire)
        except SandboxUnavailable as error:
            raise Refused(400, f"Failed to pull image: {error}") from error
        except SandboxError as error:
            raise Refused(500, str(error)) from error
        entry.started = time.monotonic()
        if entry.setup_commands:
            script = setup_script(entry.setup_commands, strict=True)
            try:
                done = await self._call(lambda: sandbox.exec(script, timeout=self.timeout))
            except SandboxError as error:
                raise Refused(500, str(error)) from error
            if done.timed_out:
                raise Refused(504, f"Setup commands took longer than {self.timeout:g} s")
            if done.exit_code != 0:
                raise Refused(400, f"Setup commands failed: {done.output}")
        entry.status = "started"

    async def _provider(self, image: str) -> SandboxProvider:
        """The provider for *image*; closes those unused for longest."""
        idle: list[SandboxProvider] = []
        async with self._choosing:
            provider = self._providers.pop(image, None)
            if provider is None:
                provider = await self._call(self._factory, image)
            self._providers[image] = provider
            in_use = {entry.image for entry in self._holders}
            unused = [name for name in self._providers if name not in in_use]
            for name in unused[:-_MOST_IDLE_IMAGES]:
                closing = self._providers.pop(name)
                if closing not in self._providers.values():
                    idle.append(closing)
        for closing in idle:
            await self._call(closing.close)
        return provider

    async def run(
        self,
        entry: Entry,
        command: str,
        *,
        standalone: bool,
        timeout: float | None,
        directory: str | None,
    ) -> dict[str, Any]:
        """Run *command* and return its result: the protocol's fields and ours."""
        with _Use(entry):
            async with entry.lock:
                sandbox = entry.sandbox
                if sandbox is None or entry.status in ("created", "stopped"):
                    raise Refused(400, "Sandbox not started")
                if entry.status == "exited" and not standalone:
                    raise Refused(400, "Sandbox session already exited")
                seconds = self.timeout if timeout is None else timeout
                since = time.monotonic() - entry.started
                try:
                    if standalone:
                        done = await self._call(
                            lambda: sandbox.exec(command, timeout=seconds, cwd=directory)
                        )
                    else:
                        done = await self._call(
                            lambda: sandbox.exec_session(command, timeout=seconds)
                        )
                except SandboxError as error:
                    raise Refused(500, str(error)) from error
                if done.timed_out and timeout is None:
                    entry.status = "exited"
                    raise Refused(504, f"Timeout: the command took longer than {seconds:g} s")
                self._note(entry, command, done, standalone, since)
                return _answer(done, sandbox.session_directory())

    def _note(
        self, entry: Entry, command: str, done: ExecResult, standalone: bool, since: float
    ) -> None:
        if done.exited or done.timed_out:
            entry.status = "exited"  # a time-out kills the session too
        if standalone:
            entry.standalone_code = done.exit_code
            return
        entry.trajectory.append(
            {
                "index": len(entry.trajectory),
                "command": command,
                "timestamp": round(since, 3),
                "result": {"output": done.output, "exit_code": done.exit_code},
            }
        )

    async def stop(self, entry: Entry, *, remove: bool) -> None:
        """Stop *entry*'s sandbox; with *remove*, remove the entry too."""
        if remove:
            self.entries.pop(entry.id, None)
        if entry.status in ("created", "stopped") and not entry.running:
            raise Refused(400, "Sandbox not started")
        # A running command gets a moment to end, or its own reply may be lost.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(entry.lock.acquire(), _STOP_PATIENCE)
            entry.lock.release()
        entry.status = "stopped"
        await self._close(entry)

    async def _close(self, entry: Entry) -> None:
        sandbox, entry.sandbox = entry.sandbox, None
        entry.used = time.monotonic()
        if sandbox is not None and not self._closed:
            await self._call(sandbox.close)
        if entry in self._holders:
            self._holders.remove(entry)
            self._permits.release()

    async def reap(self) -> int:
        """Stop and remove sandboxes unused for longer than the time limit; returns how many."""
        limit = time.monotonic() - self.timeout
        old = [each for each in self.entries.values() if not each.running and each.used < limit]
        for entry in old:
            self.entries.pop(entry.id, None)
            entry.status = "stopped"
            await self._close(entry)
        return len(old)

    async def reap_forever(self) -> None:
        """Remove unused sandboxes again and again, until cancelled."""
        while True:
            await asyncio.sleep(min(60.0, self.timeout / 4))
            await self.reap()

    async def close(self) -> None:
        """Stop every sandbox, also those with a running command."""
        self._closed = True
        for entry in self.entries.values():
            entry.status = "stopped"
        closing = asyncio.get_running_loop()
        for provider in dict.fromkeys(self._providers.values()):
            await closing.run_in_executor(None, provider.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


class _Use:
    """Marks an entry as in use, so that it is not removed."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def __enter__(self) -> None:
        self._entry.running += 1

    def __exit__(self, *_: object) -> None:
        self._entry.running -= 1
        self._entry.used = time.monotonic()


def _answer(done: ExecResult, directory: str) -> dict[str, Any]:
    return {
        "output": done.output,
        "exit_code": done.exit_code,
        "exited": done.exited,
        "timed_out": done.timed_out,
        "truncated": done.truncated,
        "limit": done.limit,
        "duration": done.duration,
        "directory": directory,
    }
