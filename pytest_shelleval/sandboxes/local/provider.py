"""The local sandbox and its provider: the interface to the rest of the project."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.quiet import Turns
from pytest_shelleval.core.sandbox import ExecResult
from pytest_shelleval.core.snapshots import Snapshots
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.defaults import START_DIRECTORY
from pytest_shelleval.sandboxes.local import protocol
from pytest_shelleval.sandboxes.local.crowding import crowded, refusals, refused
from pytest_shelleval.sandboxes.local.diagnosis import diagnosis
from pytest_shelleval.sandboxes.local.image import folder_of
from pytest_shelleval.sandboxes.local.inside.effects import unpack
from pytest_shelleval.sandboxes.local.launch import Zygote, ZygoteRefused

_READY_SECONDS = 30.0
_MARGIN_SECONDS = 15.0
_END_SECONDS = 5.0
# After a spare was not ready in time: the number of sandboxes whose spares are created at once.
_EAGER = 8


class LocalSandbox:
    """One sandbox; see :class:`pytest_shelleval.core.sandbox.Sandbox`."""

    def __init__(
        self,
        control: socket.socket,
        process: int,
        rootfs: str,
        closed: Callable[[LocalSandbox], None],
    ) -> None:
        self._rootfs = rootfs
        self._closed = closed
        self._id = f"local-{secrets.token_hex(4)}"
        self._control: socket.socket | None = control
        self.process = process
        self._directory = START_DIRECTORY
        self._before = b""
        self._refusals = refusals()
        self.first: int | None = None
        """The first operation that was requested."""

    @property
    def id(self) -> str:
        """``local-`` and eight hexadecimal digits."""
        return self._id

    @property
    def info(self) -> Mapping[str, Any]:
        """Kind, root file system and id."""
        return {"kind": "local", "rootfs": self._rootfs, "id": self._id}

    def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
        """Run *text* in a fresh bash."""
        return self._run(protocol.EXEC, text, timeout, cwd or START_DIRECTORY)

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        """Run *text* in the session."""
        return self._run(protocol.SESSION, text, timeout, "")

    def snapshot(self) -> bytes | None:
        """Everything written here; None if it is too much, or can't be restored exactly."""
        answer = self._ask(protocol.request(protocol.TAKE, 0.0, b"", b""), _MARGIN_SECONDS)
        return answer.output if answer.flags & protocol.READY else None

    def restore(self, snapshot: bytes) -> None:
        """Bring this fresh sandbox to the state of *snapshot*."""
        answer = self._ask(protocol.request(protocol.RESTORE, 0.0, b"", snapshot), _MARGIN_SECONDS)
        if not answer.flags & protocol.READY:
            self.close()
            reason = answer.output.decode("utf-8", "backslashreplace")
            raise SandboxError(f"Sandbox {self._id} could not be set up from a snapshot: {reason}")

    def mark(self) -> None:
        """Make :meth:`effects` ignore everything done so far."""
        # It has no answer, and is sent with the next request, so that the supervisor wakes up once.
        self._before = protocol.request(protocol.MARK, 0.0, b"", b"")

    def effects(self) -> Mapping[str, Any]:
        """What commands did since the mark; see :class:`pytest_shelleval.core.sandbox.Observant`."""
        request = protocol.request(protocol.EFFECTS, 0.0, b"", b"")
        return unpack(self._ask(request, _MARGIN_SECONDS).output)

    def session_directory(self) -> str:
        """The session's directory, or its last one if it has ended."""
        return self._directory

    def close(self) -> None:
        """Kill every process of the sandbox; the kernel frees the rest."""
        control, self._control = self._control, None
        if control is None:
            return
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.process, signal.SIGKILL)
        control.close()
        self._closed(self)

    def _run(self, operation: int, text: str, timeout: float, directory: str) -> ExecResult:
        encoded = _encode(text)
        if len(encoded) > protocol.LONGEST_TEXT:
            raise SandboxError(
                f"The command has {len(encoded)} bytes; {protocol.LONGEST_TEXT} at most"
            )
        request = protocol.request(operation, timeout, _encode(directory), encoded)
        answer = self._ask(request, timeout + _MARGIN_SECONDS)
        if answer.code and refusals() > self._refusals:
            raise SandboxError(f"Sandbox {self._id}: {refused()}")
        if answer.directory:
            self._directory = os.fsdecode(answer.directory)
        if answer.flags & protocol.NO_SESSION:
            raise SandboxError("The session has ended; only fresh shells can be run")
        return ExecResult(
            output=answer.output.decode("utf-8", "backslashreplace"),
            exit_code=None if answer.code == protocol.NO_CODE else answer.code,
            exited=bool(answer.flags & protocol.EXITED),
            timed_out=bool(answer.flags & protocol.TIMED_OUT),
            truncated=bool(answer.flags & protocol.TRUNCATED),
            limit=answer.limit,
            duration=answer.seconds,
            missing_capability="ids" if answer.flags & protocol.LACKS_IDS else None,
            starved=answer.starved,
        )

    def _send(self, request: bytes, seconds: float) -> socket.socket:
        if self._control is None:
            raise SandboxError(f"Sandbox {self._id} is closed")
        if self.first is None:
            self.first = request[0]
        self._control.settimeout(seconds)
        before, self._before = self._before, b""
        self._control.sendall(before + request)
        return self._control

    def _ask(self, request: bytes, seconds: float) -> Answer:
        deadline = time.monotonic() + seconds
        try:
            return receive(self._send(request, seconds), deadline)
        except SandboxError:
            raise
        except OSError as error:
            self.close()
            raise SandboxError(
                f"Sandbox {self._id} failed: {error or type(error).__name__}"
            ) from error
        except BaseException:
            # Interrupted before the answer: the next request would read this one's answer.
            self.close()
            raise


def _encode(text: str) -> bytes:
    text = text.replace("\0", "")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


class Answer(NamedTuple):
    """An answer of a supervisor."""

    flags: int
    code: int
    limit: str | None
    seconds: float
    starved: float | None
    directory: bytes
    output: bytes
    descriptors: list[int]


def receive(control: socket.socket, deadline: float) -> Answer:
    """The next answer; OSError if none comes in time."""
    data = bytearray()
    descriptors: list[int] = []
    needed = head = protocol.ANSWER.size
    while len(data) < needed:
        control.settimeout(max(0.001, deadline - time.monotonic()))
        part, received = protocol.receive_with_descriptors(control, 1 << 20)
        descriptors += received
        if not part:
            for descriptor in descriptors:
                os.close(descriptor)
            raise ConnectionResetError("its supervisor is gone")
        data += part
        if needed == head and len(data) >= head:
            needed += sum(protocol.ANSWER.unpack_from(data)[5:])
    flags, code, limit, seconds, share, directory_size, _ = protocol.ANSWER.unpack_from(data)
    middle = head + directory_size
    return Answer(
        flags,
        code,
        protocol.LIMITS[limit],
        seconds,
        None if math.isnan(share) else share,
        bytes(data[head:middle]),
        bytes(data[middle:]),
        descriptors,
    )


def _refusal(facts: Mapping[str, Any], *, proven: bool = False) -> SandboxError:
    """The error for a failed creation: temporary, or if no sandbox was ever *proven* to work, final."""
    if proven or crowded():
        return SandboxError(str(facts.get("error")))
    return SandboxUnavailable(diagnosis(facts).message)


class LocalProvider:
    """Hands out local sandboxes, each used once, some of them created ahead."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        pool_size: int = 1,
        rootfs: Path | None = None,
        snapshots: Path | None = None,
        turns: Turns | None = None,
    ) -> None:
        """*rootfs*: a folder or a tar to use instead of the host's files; for an ordinary user it
        must be the user's own, or its files can't be changed.

        *snapshots*: a folder, empty at the start of a run, that its processes share.
        """
        self._image = rootfs
        self._rootfs = "host" if rootfs is None else str(rootfs)
        self.snapshots: Snapshots | None = Snapshots(snapshots)
        """Snapshots of setups; None runs every setup."""
        self.turns = turns
        """Lets executions wait for each other, so that one can run alone; None: they never wait."""
        self._limits = limits or Limits()
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None
        self._spares: deque[socket.socket] = deque()
        self._given: list[LocalSandbox] = []
        # Whether a sandbox has worked: until then, a failure is the machine's.
        self._proven = False
        self._eager = _EAGER
        # Whether the last sandbox began with a fresh shell: then the next probably will too.
        self._shell_first = False

    @property
    def info(self) -> Mapping[str, Any]:
        """Kind and root file system."""
        return {"kind": "local", "rootfs": self._rootfs}

    @property
    def facts(self) -> Mapping[str, Any]:
        """How sandboxes are built on this machine; empty before the first."""
        return dict(self._zygote.facts) if self._zygote else {}

    def acquire(self) -> LocalSandbox:
        """A fresh sandbox; may be called by several threads at a time."""
        for attempt in (1, 2):
            zygote: Zygote | None = None
            try:
                with self._lock:
                    self._forget_ended()
                    zygote = self._running_zygote()
                    control = self._next(zygote)
                sandbox = self._when_ready(control)
                break
            except SandboxUnavailable:
                self._give_up(zygote)
                raise
            except (OSError, SandboxError) as error:
                self._give_up(zygote)
                if attempt == 2:
                    room = crowded()
                    reason = f"{error}; {room}" if room else str(error)
                    raise SandboxError(f"No local sandbox could be created: {reason}") from error
        with self._lock:
            self._given.append(sandbox)
        return sandbox

    def _running_zygote(self) -> Zygote:
        if self._zygote is None:
            try:
                image = folder_of(self._image) if self._image is not None else None
                self._zygote = Zygote(self._limits, image)
            except ZygoteRefused as refusal:
                raise _refusal(refusal.facts) from refusal
        return self._zygote

    def _next(self, zygote: Zygote) -> socket.socket:
        """The control socket of the next sandbox, which may not be ready yet."""
        # Creating a sandbox slows down the previous one, still in use: as long as spares are ready in
        # time, the next one is created only at the end of a task.
        if not self._spares or not select.select([self._spares[0]], [], [], 0)[0]:
            self._eager = _EAGER
        self._fill(zygote, 0 if self._eager else 1)
        self._eager = max(0, self._eager - 1)
        return self._spares.popleft()

    def _when_ready(self, control: socket.socket) -> LocalSandbox:
        try:
            answer = receive(control, time.monotonic() + _READY_SECONDS)
        except OSError:
            control.close()
            raise
        if answer.flags != protocol.READY or not answer.descriptors:
            control.close()
            reason = answer.output.decode("utf-8", "backslashreplace")
            raise _refusal({"stage": "sandbox", "error": reason}, proven=self._proven)
        self._proven = True
        return LocalSandbox(control, answer.descriptors[0], self._rootfs, self._refill)

    def _give_up(self, zygote: Zygote | None) -> None:
        """Stop *zygote*, so that a new one is started, unless another thread has done so."""
        with self._lock:
            if zygote is self._zygote:
                self._stop_zygote()

    def _fill(self, zygote: Zygote, missing: int) -> None:
        """Request spares until only *missing* of them are missing."""
        while len(self._spares) <= self._pool_size - missing:
            self._spares.append(zygote.request(self._shell_first))

    def _refill(self, closed: LocalSandbox) -> None:
        """Request the next spare, because *closed* was closed."""
        if closed.first is not None:
            self._shell_first = closed.first == protocol.EXEC
        if not self._lock.acquire(blocking=False):
            return  # one is being acquired, or all are being closed
        try:
            with contextlib.suppress(OSError):
                if self._zygote is not None and len(self._spares) < self._pool_size:
                    self._spares.append(self._zygote.request(self._shell_first))
        finally:
            self._lock.release()

    def _forget_ended(self, wait: float = 0.0) -> None:
        """Let go of sandboxes whose processes are all gone, and close those that died."""
        deadline = time.monotonic() + wait
        kept = []
        for sandbox in self._given:
            poll = select.poll()
            poll.register(sandbox.process, select.POLLIN)
            if poll.poll(max(0.0, deadline - time.monotonic()) * 1000 if wait else 0):
                sandbox.close()
                os.close(sandbox.process)
            else:
                kept.append(sandbox)
        self._given = kept

    def _stop_zygote(self) -> None:
        while self._spares:
            self._spares.popleft().close()
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None

    def close(self) -> None:
        """Close all sandboxes and wait, for a limited time, until they are gone."""
        with self._lock:
            for sandbox in self._given:
                sandbox.close()
            self._stop_zygote()
            self._forget_ended(_END_SECONDS)
