"""The first process of a sandbox: it starts shells and reports how they ended.

Commands can't trace it, signal it or write to it, and its reports on standalone shells come from the
kernel (``waitpid``). When its control socket closes it exits, and the kernel kills every process of the
sandbox with it.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import time

from pytest_shelleval.sandboxes.local import protocol
from pytest_shelleval.sandboxes.local.inside import snapshot, watch
from pytest_shelleval.sandboxes.local.inside.ahead import LONGEST_TEXT, ShellAhead
from pytest_shelleval.sandboxes.local.inside.ids import NotificationListener
from pytest_shelleval.sandboxes.local.inside.observer import Observer
from pytest_shelleval.sandboxes.local.inside.output import Output
from pytest_shelleval.sandboxes.local.inside.session import Session
from pytest_shelleval.sandboxes.local.inside.starvation import Share
from pytest_shelleval.sandboxes.local.world import build as world
from pytest_shelleval.sandboxes.local.world import etc, namespaces, rootfs
from pytest_shelleval.sandboxes.local.world.layers import Place

_SHELL = "/bin/bash"
_ENVIRONMENT = {
    "HOME": rootfs.HOME,
    "HOSTNAME": etc.HOST_NAME,
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": _SHELL,
    "TERM": "xterm",
    "USER": "root",
}
_IN_ARGUMENT = 100_000
_GRACE = 0.1
_GRACE_TICK = 0.01
_START_SECONDS = 20
_IDLE_PAUSE = 200
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGINT)


class Configuration:
    """The settings that the zygote passes to every sandbox."""

    __slots__ = ("disk", "ids", "memory", "output", "processes", "program", "telling", "trees")

    def __init__(self, limits: tuple[int, ...], ids: int) -> None:
        self.memory, self.disk, self.processes, self.output = limits
        self.ids = ids
        self.trees: list[rootfs.Tree] = []
        self.program = b""
        self.telling: tuple[bytes, dict[int, str]] | None = None
        """The seccomp program for a sandbox that lacks ids, and the calls that it reports."""


def told(error: BaseException) -> str:
    """The description of *error* for the client."""
    return (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"


def send_failure(control: socket.socket, error: BaseException) -> None:
    """Tell the client that there will be no sandbox."""
    reason = told(error).encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        control.sendall(protocol.answer(protocol.FAILED, output=reason))


def run(control: socket.socket, configuration: Configuration, ahead: bool) -> None:
    """Run as the first process of a new sandbox until the client disconnects; never returns.

    *ahead* starts a fresh shell before the first text comes.
    """
    places = world.build(configuration.ids, configuration.disk, configuration.trees)
    text = os.memfd_create("text", os.MFD_CLOEXEC)
    wake, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    process = os.pidfd_open(os.getpid())
    world.restrict(configuration.memory, configuration.program)
    mediator = _mediate(configuration, places)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    observer = Observer(places)
    supervisor = Supervisor(control, configuration, text, wake, observer, mediator, ahead)
    socket.send_fds(control, [protocol.answer(protocol.READY)], [process])
    os.close(process)
    supervisor.serve()


def _mediate(configuration: Configuration, places: list[Place]) -> NotificationListener | None:
    """If the sandbox lacks ids, start a listener for the calls that may need them; else None."""
    if configuration.telling is None:
        return None
    program, names = configuration.telling
    mediator = NotificationListener(names, configuration.ids, places)
    told = mediator.start(lambda: namespaces.install_filter(program, tells=True))
    return mediator if told else None


def _ignore(*_: object) -> None:
    """A handler for SIGCHLD that does nothing, so that Python writes to the wake-up pipe."""


class Step:
    """One text that runs, and then how it ended."""

    def __init__(self, output: Output, timeout: float) -> None:
        self.output = output
        self.start = time.monotonic()
        self.deadline = self.start + timeout
        self.done = False
        self.flags = 0
        self.code: int | None = None
        self.limit: str | None = None
        self.starved: float | None = None

    def end(self, code: int | None, flags: int = 0) -> None:
        """Note how it ended; only the first end counts."""
        if not self.done:
            self.done, self.code = True, code
            self.flags |= flags

    def answer(self, directory: bytes = b"") -> bytes:
        """The encoded result."""
        if self.code and self.limit is None and watch.full_disk():
            self.limit = "disk"
        if self.output.truncated:
            self.flags |= protocol.TRUNCATED
        code = protocol.NO_CODE if self.code is None else self.code
        seconds = time.monotonic() - self.start
        return protocol.answer(
            self.flags, code, self.limit, seconds, self.starved, directory, self.output.take()
        )


class Supervisor:
    """Runs one request after another."""

    def __init__(
        self,
        control: socket.socket,
        configuration: Configuration,
        text: int,
        wake: int,
        observer: Observer,
        mediator: NotificationListener | None,
        ahead: bool,
    ) -> None:
        self._control = control
        self._configuration = configuration
        self._text = text
        self._wake = wake
        self._observer = observer
        self._mediator = mediator
        self._running: dict[int, Step] = {}
        self._watchdog = watch.Watchdog(configuration.memory, configuration.processes)
        self._share = Share()
        os.chdir(rootfs.HOME)
        self._ahead = ShellAhead(self._spawn, configuration.output) if ahead else None
        self._session = Session(self._spawn_apart, text, configuration.output)
        os.chdir("/")
        if not self._session.wait_until_ready(_START_SECONDS):
            raise RuntimeError("bash did not start")

    def _spawn(self, arguments: list[str | bytes], descriptors: dict[int, int]) -> int:
        """Start a bash with *descriptors* (number inside -> number here) and nothing else."""
        # They are duplicated one after the other: none may be overwritten before its turn.
        moved = {
            here: fcntl.fcntl(here, fcntl.F_DUPFD_CLOEXEC, max(descriptors) + 1)
            for here in descriptors.values()
            if descriptors.get(here, here) != here
        }
        try:
            child = os.posix_spawn(
                _SHELL,
                arguments,
                _ENVIRONMENT,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, moved.get(here, here), there)
                    for there, here in descriptors.items()
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULT_SIGNALS,
            )
        finally:
            for descriptor in moved.values():
                os.close(descriptor)
        # This process itself may start a few more, so that a full sandbox can still run requests.
        limit = world.allowed(resource.RLIMIT_NPROC, self._configuration.processes)
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(child, resource.RLIMIT_NPROC, (limit, limit))
        return child

    def _spawn_apart(self, arguments: list[str | bytes], descriptors: dict[int, int]) -> int:
        """Like :meth:`_spawn`, without the capability that fresh shells inherit.

        A process with fewer capabilities than another can't trace it or write to its memory
        (ptrace(2)): so no process that a command left running can reach the shell of the condition.
        Done in a thread, because capabilities belong to threads.
        """
        spawned: list[int] = []
        faults: list[OSError] = []

        def spawn() -> None:
            try:
                namespaces.inherit_capability(None)
                spawned.append(self._spawn(arguments, descriptors))
            except OSError as error:
                faults.append(error)
            finally:
                done.release()

        done = _thread.allocate_lock()
        done.acquire()
        _thread.start_new_thread(spawn, ())
        done.acquire()
        if not spawned:
            raise RuntimeError(f"bash could not be started: {faults[0] if faults else ''}")
        return spawned[0]

    # --- requests

    def serve(self) -> None:
        """Answer requests until the control socket closes."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        pause: float | None = None
        while True:
            for descriptor, _ in poll.poll(pause):
                if descriptor == self._wake:
                    self._reap()
                else:
                    self._answer()
            # Processes that a text left running are watched until the next text comes.
            busy = watch.left_behind(self._session.shell)
            pause = _IDLE_PAUSE if busy else None
            if busy and self._watchdog.look(time.monotonic()):
                self._end_all()

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
        head = self._receive(protocol.REQUEST.size)
        operation, timeout, directory_size, text_size = protocol.REQUEST.unpack(head)
        directory = self._receive(directory_size)
        text = self._receive(text_size)
        self._reap()  # so that the text does not see processes that have ended
        if self._mediator is not None:
            self._mediator.lacking = False
        shell, self._ahead = self._ahead, None
        if shell is not None:
            if (
                operation == protocol.EXEC
                and directory == os.fsencode(rootfs.HOME)
                and text_size <= LONGEST_TEXT
            ):
                self._control.sendall(self._in_shell_ahead(shell, text, timeout))
                return
            shell.drop()
        if operation == protocol.MARK:
            self._observer.mark(self._session.shell)
        elif operation == protocol.EFFECTS:
            effects = self._observer.effects(self._session.shell)
            self._control.sendall(protocol.answer(0, 0, output=effects))
        elif operation in (protocol.TAKE, protocol.RESTORE):
            self._control.sendall(self._snapshot(text))
        elif operation == protocol.SESSION:
            self._control.sendall(self._in_session(text, timeout))
        else:
            self._control.sendall(self._standalone(text, timeout, directory))

    def _snapshot(self, text: bytes) -> bytes:
        """Restore *text*, or take a snapshot if it is empty."""
        try:
            if text:
                snapshot.restore(text)
                return protocol.answer(protocol.READY)
            if watch.left_behind(self._session.shell):
                raise snapshot.NotCaughtError("processes")
            return protocol.answer(protocol.READY, output=snapshot.take(self._observer.parts))
        except (OSError, ValueError, RecursionError, snapshot.NotCaughtError) as error:
            return protocol.answer(protocol.FAILED, output=str(error).encode(errors="replace"))

    def _keep_text(self, text: bytes) -> None:
        os.ftruncate(self._text, 0)
        os.lseek(self._text, 0, os.SEEK_SET)
        view = memoryview(text)
        while view:
            view = view[os.write(self._text, view) :]

    def _standalone(self, text: bytes, timeout: float, directory: bytes) -> bytes:
        reading, writing = os.pipe()
        step = Step(Output(reading, self._configuration.output), timeout)
        descriptors = {0: 0, 1: writing, 2: writing}
        if len(text) > _IN_ARGUMENT:
            self._keep_text(text)
            number = protocol.TEXT_DESCRIPTOR
            descriptors[number] = self._text
            text = b'eval "$(</proc/self/fd/%d)" %d<&-' % (number, number)
        for place in (directory, rootfs.HOME, "/"):
            try:
                os.chdir(place)
                break
            except (OSError, ValueError):
                continue
        try:
            child = self._spawn(["bash", "-c", text], descriptors)
        except OSError as error:
            os.write(writing, f"{_SHELL}: {error.strerror}\n".encode())
            step.end(127 if error.errno == 2 else 126)
            step.limit = "processes" if error.errno == 11 else None
            step.output.drain()
        else:
            self._running[child] = step
        finally:
            os.chdir("/")
            os.close(writing)
        return self._end_standalone(step)

    def _in_shell_ahead(self, shell: ShellAhead, text: bytes, timeout: float) -> bytes:
        step = Step(shell.output, timeout)
        self._running[shell.process] = step
        shell.begin(text)
        return self._end_standalone(step)

    def _end_standalone(self, step: Step) -> bytes:
        if not step.done:
            self._wait(step, None)
            self._running.clear()
        os.close(step.output.descriptor)
        return self._finished(step)

    def _in_session(self, text: bytes, timeout: float) -> bytes:
        session = self._session
        if not session.alive:
            return protocol.answer(protocol.NO_SESSION, directory=session.directory)
        step = Step(session.output, timeout)
        self._running[session.process] = step
        if session.inline(text):
            session.begin(text)
        else:
            self._keep_text(text)
            session.begin(None)
        self._wait(step, session)
        self._running.clear()
        return self._finished(step, session.directory)

    def _finished(self, step: Step, directory: bytes = b"") -> bytes:
        if self._mediator is not None and self._mediator.lacking:
            step.flags |= protocol.LACKS_IDS
        return step.answer(directory)

    # --- waiting

    def _wait(self, step: Step, session: Session | None) -> None:
        """Wait until the text has ended: by itself, by its timeout, by a limit."""
        poll = select.poll()
        control = self._control.fileno()
        poll.register(control, 0)  # only whether it hangs up
        poll.register(self._wake, select.POLLIN)
        poll.register(step.output.descriptor, select.POLLIN)
        if session is not None:
            poll.register(session.report, select.POLLIN)
        watchdog, share = self._watchdog, self._share
        watchdog.start(step.start)
        share.start()
        while not step.done:
            now = time.monotonic()
            if now >= step.deadline:
                share.look(now)
                self._end_all()
                step.done, step.code = True, None
                step.flags = protocol.TIMED_OUT
                break
            if now >= watchdog.next_look:
                if now >= share.next_look:
                    share.look(now)
                step.limit = watchdog.look(now)
                if step.limit is not None:
                    self._end_all()
                    step.done, step.code = True, 128 + signal.SIGKILL
                    break
                if session is not None:
                    session.note_directory()
            wait = min(step.deadline, watchdog.next_look) - now
            for descriptor, event in poll.poll(max(0.0, wait) * 1000 + 1):
                if descriptor == step.output.descriptor:
                    if not step.output.read() and step.output.closed:
                        poll.unregister(descriptor)
                elif descriptor == self._wake:
                    self._reap()
                elif descriptor == control:
                    if event & (select.POLLHUP | select.POLLERR):
                        os._exit(0)
                elif session is not None:
                    status, more = session.status()
                    if status is not None:
                        session.note_directory()
                        step.end(status & 255)
                    if not more:
                        poll.unregister(descriptor)
        if watchdog.crowded and step.code != 0 and step.limit is None:
            step.limit = "processes"
        step.starved = share.starved()
        self._collect(step.output)

    def _collect(self, output: Output) -> None:
        """Read the rest of the output; for a moment also that of processes left running."""
        output.drain()
        until = time.monotonic() + _GRACE
        while not output.closed and time.monotonic() < until:
            if not watch.others_write(output.descriptor, self._session.shell):
                output.drain()
                return
            output.wait(_GRACE_TICK)
            output.drain()
            self._reap()

    def _end_all(self) -> None:
        """Kill every other process, and wait until all are gone."""
        self._session.note_directory()
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                self._note_end(*os.waitpid(-1, 0))

    def _reap(self) -> None:
        """Wait for all processes that have ended: shells of steps, and orphans."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)
        with contextlib.suppress(ChildProcessError):
            while True:
                child, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if not child:
                    return
                self._note_end(child, status)

    def _note_end(self, child: int, status: int) -> None:
        session = self._session
        own = child == session.process
        if os.WIFSTOPPED(status):
            # The session's shell stops itself when it exits, so that its directory can be read.
            if own:
                session.stopped()
            return
        if own:
            session.alive = False
        step = self._running.get(child)
        if step is not None:
            code = os.waitstatus_to_exitcode(status)
            step.end(128 - code if code < 0 else code, protocol.EXITED if own else 0)
