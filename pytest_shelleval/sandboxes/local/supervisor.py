"""The first process of a sandbox: it builds the world, starts shells and says how they ended.

Commands can neither trace nor signal nor write to it, and what it reports of a standalone shell it
knows from the kernel (``waitpid``). When its control socket closes it exits, and the kernel ends
every process of the sandbox with it.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import socket
import struct
import time
from typing import Any

from pytest_shelleval.sandboxes.local import etc, namespaces, protocol, rootfs, watch
from pytest_shelleval.sandboxes.local.session import Session

HOME = b"/home/shellm"
SHELL = "/bin/bash"
ENVIRONMENT = {
    "HOME": "/home/shellm",
    "HOSTNAME": etc.HOST_NAME,
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": SHELL,
    "TERM": "xterm",
    "USER": "root",
}
# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW,
# SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP: what Docker leaves to root.
_CAPABILITIES = frozenset((0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31))
_FILES = 4096
_IN_ARGUMENT = 100_000
_TEXT_DESCRIPTOR = 118
_CHUNK = 1 << 18
_GRACE = 0.1
_GRACE_TICK = 0.01
_ALL_DEFAULT = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT)


def send_failure(control: socket.socket, reason: str) -> None:
    """Tell the client that there will be no sandbox."""
    try:
        control.sendall(protocol.answer({"error": reason}))
    except OSError:
        pass


def run(
    control: socket.socket,
    configuration: dict[str, int],
    trees: list[rootfs.Tree],
    program: bytes,
) -> None:
    """Be the first process of a new sandbox until the client goes away; never returns."""
    _build_world(configuration, trees)
    text = os.memfd_create("text", os.MFD_CLOEXEC)
    wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    self_descriptor = os.pidfd_open(os.getpid())
    _restrict(configuration, program)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(wake[1], warn_on_full_buffer=False)
    supervisor = Supervisor(control, configuration, text, wake[0])
    supervisor.open_session()
    socket.send_fds(control, [protocol.answer({"ready": True})], [self_descriptor])
    os.close(self_descriptor)
    supervisor.serve()


def _ignore(*_: object) -> None:
    """Stand in for SIGCHLD's default, so that Python writes to the wake-up pipe."""


def _build_world(configuration: dict[str, int], trees: list[rootfs.Tree]) -> None:
    if configuration["ids"] > 1:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    namespaces.set_dumpable(False)
    namespaces.set_host_name(etc.HOST_NAME)
    rootfs.assemble(trees, configuration["disk"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up_and_running = struct.pack("16sh14x", b"lo", 0x41)
        fcntl.ioctl(any_socket, 0x8914, up_and_running)  # SIOCSIFFLAGS
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "wb", buffering=0) as file:
            file.write(b"0")
    except OSError:
        pass  # root may bind any port anyway


def _restrict(configuration: dict[str, int], program: bytes) -> None:
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
    # 1, not 0: a core pattern that names a program ignores the limit, except for this value.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    files = min(_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, files), files))
    # A second line behind the watchdog, twice the limit, since it counts what is only reserved.
    data = 2 * configuration["memory"]
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    namespaces.limit_capabilities(_CAPABILITIES)
    namespaces.install_filter(program)


class Output:
    """The read end of a pipe that commands write to: keeps the first bytes, throws away the rest."""

    def __init__(self, descriptor: int, limit: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.limit = limit
        self.truncated = False
        self.closed = False
        self._room = limit
        self._chunks: list[bytes] = []

    def read(self) -> None:
        """Take what is there, at most one chunk."""
        try:
            chunk = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return
        if not chunk:
            self.closed = True
        elif self._room >= len(chunk):
            self._chunks.append(chunk)
            self._room -= len(chunk)
        else:
            self.truncated = True
            if self._room:
                self._chunks.append(chunk[: self._room])
                self._room = 0

    def drain(self, most: int = 64) -> None:
        """Take what is there; a writer without end does not hold this up."""
        for _ in range(most):
            if self.closed or not _readable(self.descriptor):
                return
            self.read()

    def take(self) -> bytes:
        """What was kept; starts afresh."""
        kept = b"".join(self._chunks)
        self._chunks.clear()
        self._room = self.limit
        return kept


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


class Step:
    """One text under way: which process it is, where its output comes, when it is too late."""

    def __init__(self, output: Output, timeout: float) -> None:
        self.output = output
        self.start = time.monotonic()
        self.deadline = self.start + timeout
        self.code: int | None = None
        self.done = False
        self.exited = False
        self.timed_out = False
        self.limit: str | None = None


class Supervisor:
    """Runs one request after another."""

    def __init__(
        self, control: socket.socket, configuration: dict[str, int], text: int, wake: int
    ) -> None:
        self._control = control
        self._configuration = configuration
        self._text = text
        self._wake = wake
        self._session: Session | None = None
        self._running: dict[int, Step] = {}

    # --- starting shells

    def spawn(self, arguments: list[str | bytes], descriptors: dict[int, int]) -> int:
        """Start a bash with *descriptors* (number inside -> number here) and nothing else."""
        actions = [(os.POSIX_SPAWN_DUP2, here, there) for there, here in descriptors.items()]
        child = os.posix_spawn(
            SHELL,
            arguments,
            ENVIRONMENT,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=_ALL_DEFAULT,
        )
        limit = self._configuration["processes"]
        resource.prlimit(child, resource.RLIMIT_NPROC, (limit, limit))
        return child

    def open_session(self) -> None:
        """Start the session's shell and wait until it takes commands."""
        os.chdir(HOME)
        self._session = Session(self.spawn, self._text, self._configuration["output"])
        os.chdir("/")
        if not self._session.wait_until_ready(10):
            raise RuntimeError("bash did not start")

    # --- serving

    def serve(self) -> None:
        """Answer requests until the control socket closes."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == self._wake:
                    self._reap()
                else:
                    self._answer()

    def _receive(self, size: int) -> bytes:
        parts = []
        while size:
            part = self._control.recv(min(size, 1 << 20))
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _answer(self) -> None:
        operation, timeout, directory_size, text_size = protocol.REQUEST.unpack(
            self._receive(protocol.REQUEST.size)
        )
        directory = self._receive(directory_size)
        text = self._receive(text_size)
        fields, output = (
            self._in_session(text, timeout)
            if operation == protocol.SESSION
            else self._standalone(text, timeout, directory)
        )
        self._control.sendall(protocol.answer(fields, output))

    def _write_text(self, text: bytes) -> None:
        os.ftruncate(self._text, 0)
        os.lseek(self._text, 0, os.SEEK_SET)
        view = memoryview(text)
        while view:
            view = view[os.write(self._text, view) :]

    def _standalone(
        self, text: bytes, timeout: float, directory: bytes
    ) -> tuple[dict[str, Any], bytes]:
        reading, writing = os.pipe()
        step = Step(Output(reading, self._configuration["output"]), timeout)
        descriptors = {0: 0, 1: writing, 2: writing}
        argument = text
        if len(text) > _IN_ARGUMENT:
            self._write_text(text)
            descriptors[_TEXT_DESCRIPTOR] = self._text
            argument = b'eval "$(</proc/self/fd/%d)" %d<&-' % (_TEXT_DESCRIPTOR, _TEXT_DESCRIPTOR)
        for place in (directory, HOME, b"/"):
            try:
                os.chdir(place)
                break
            except OSError:
                continue
        try:
            child = self.spawn(["bash", "-c", argument], descriptors)
        except OSError as error:
            os.close(reading)
            os.close(writing)
            code = 127 if error.errno == 2 else 126
            message = f"{SHELL}: {os.strerror(error.errno or 0)}\n".encode()
            limit = "processes" if error.errno == 11 else None
            step.code, step.limit = code, limit
            return self._fields(step), message
        finally:
            os.chdir("/")
        os.close(writing)
        self._running[child] = step
        self._wait(step, None)
        self._running.pop(child, None)
        fields = self._fields(step)
        os.close(reading)
        return fields, step.output.take()

    def _in_session(self, text: bytes, timeout: float) -> tuple[dict[str, Any], bytes]:
        session = self._session
        if session is None or not session.alive:
            return {"dead": True, "cwd": os.fsdecode(session.directory if session else HOME)}, b""
        step = Step(session.output, timeout)
        session.output.truncated = False
        if session.inline(text):
            session.begin(text)
        else:
            self._write_text(text)
            session.begin(None)
        self._running[session.process] = step
        self._wait(step, session)
        self._running.pop(session.process, None)
        fields = self._fields(step)
        fields["cwd"] = os.fsdecode(session.directory)
        return fields, session.output.take()

    def _fields(self, step: Step) -> dict[str, Any]:
        if step.code and step.limit is None:
            step.limit = watch.full_disk()
        return {
            "code": step.code,
            "exited": step.exited,
            "timed_out": step.timed_out,
            "truncated": step.output.truncated,
            "limit": step.limit,
            "duration": time.monotonic() - step.start,
        }

    # --- waiting

    def _wait(self, step: Step, session: Session | None) -> None:
        """Until the text has ended: by itself, by the clock, by a limit."""
        poll = select.poll()
        poll.register(self._control, 0)  # only whether it hangs up
        poll.register(self._wake, select.POLLIN)
        poll.register(step.output.descriptor, select.POLLIN)
        if session is not None:
            poll.register(session.report, select.POLLIN)
        watchdog = watch.Watchdog(
            self._configuration["memory"], self._configuration["processes"], time.monotonic()
        )
        while not step.done:
            now = time.monotonic()
            if now >= step.deadline:
                self._end_all(step)
                step.timed_out = True
                break
            if now >= watchdog.next_look:
                verdict = watchdog.look(now)
                if session is not None:
                    session.note_directory()
                if verdict == "memory":
                    self._end_all(step)
                    step.limit, step.code = "memory", 128 + signal.SIGKILL
                    break
            wait = min(step.deadline, watchdog.next_look) - now
            for descriptor, event in poll.poll(max(0, wait) * 1000 + 1):
                if descriptor == step.output.descriptor:
                    step.output.read()
                    if step.output.closed:
                        poll.unregister(descriptor)
                elif descriptor == self._wake:
                    self._reap()
                elif descriptor == self._control.fileno():
                    if event & (select.POLLHUP | select.POLLERR):
                        os._exit(0)
                elif session is not None and not session.read_report(step):
                    poll.unregister(descriptor)
        if watchdog.crowded and (step.code or step.timed_out) and step.limit is None:
            step.limit = "processes"
        self._collect(step, session)

    def _collect(self, step: Step, session: Session | None) -> None:
        """The rest of the output: for a moment also what processes write that were left behind."""
        step.output.drain()
        until = time.monotonic() + _GRACE
        own = session.process if session is not None and session.alive else 0
        while not step.output.closed and time.monotonic() < until:
            if not watch.others_write(step.output.descriptor, own):
                step.output.drain()
                return
            poll = select.poll()
            poll.register(step.output.descriptor, select.POLLIN)
            poll.register(self._wake, select.POLLIN)
            if poll.poll(_GRACE_TICK * 1000):
                self._reap()
                step.output.drain(1)

    def _end_all(self, step: Step) -> None:
        """Kill everything but this process, and wait until it is gone."""
        if self._session is not None:
            self._session.note_directory()
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            while True:
                self._note_end(*os.waitpid(-1, 0))
        except ChildProcessError:
            pass
        step.code = None

    def _reap(self) -> None:
        """Take the ends of all that has ended: shells under way, and orphans."""
        try:
            os.read(self._wake, 4096)
        except BlockingIOError:
            pass
        try:
            while True:
                child, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if not child:
                    return
                self._note_end(child, status)
        except ChildProcessError:
            return

    def _note_end(self, child: int, status: int) -> None:
        session = self._session
        own = session is not None and child == session.process
        if os.WIFSTOPPED(status):
            # The session's shell stops itself when it exits, so that its directory can be read.
            if own and session is not None:
                session.note_directory()
                os.kill(child, signal.SIGCONT)
            return
        if own and session is not None:
            session.ended()
        step = self._running.get(child)
        if step is not None and not step.done:
            code = os.waitstatus_to_exitcode(status)
            step.code = 128 - code if code < 0 else code
            step.exited = own
            step.done = True
