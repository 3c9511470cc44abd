"""The Docker sandbox and its provider: the interface to the rest of the project."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import docker
import docker.errors
import docker.utils
import requests.exceptions

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.sandbox import ExecResult
from pytest_shelleval.sandboxes import container_supervisor as inside
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.defaults import START_DIRECTORY
from pytest_shelleval.sandboxes.docker_engine import owner
from pytest_shelleval.sandboxes.docker_engine.stream import Connection, Output

Progress = Callable[[str], None]
"""Called with each line of progress while an image is pulled."""

_START = "exec 120<&0 121>&1 122>&2\n" + inside.SUPERVISOR
_ENVIRONMENT = {
    "HOME": START_DIRECTORY,
    "HOSTNAME": "sandbox",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "SHELL": "/bin/bash",
    "TERM": "xterm",
    "USER": "root",
}
# Those of Docker's default set that root's commands are known to need; NET_RAW is not among them.
_CAPABILITIES = [
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
    *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
]
_API_SECONDS = 120.0
_READY_SECONDS = 60.0
_MARGIN_SECONDS = 15.0
_END_SECONDS = 60.0
_GONE = (OSError, docker.errors.DockerException, requests.exceptions.RequestException)


def connect(seconds: float = _API_SECONDS) -> Any:
    """The API of the engine named by the environment (``DOCKER_HOST`` and similar variables).

    Raises SandboxUnavailable when none answers.
    """
    try:
        client = docker.from_env(timeout=int(seconds))
        client.ping()
    except _GONE as error:
        raise SandboxUnavailable(
            f"No Docker engine answers: {_first_line(error)}\n"
            "Start one (sudo systemctl start docker), or say where it is: "
            "export DOCKER_HOST=unix:///path/of/docker.sock\n"
            "To use it, your user must be able to write to its socket (group docker)."
        ) from error
    return client.api


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _no_image(image: str, reason: str) -> str:
    return (
        f"The image {image} can't be used: {reason}\n"
        f"Get it with one of:\n    docker pull {image}\n    docker load < image.tar\n"
        f"    docker import -c 'WORKDIR {START_DIRECTORY}' root-file-system.tar {image}\n"
        "Or name another that has bash: --shelleval-sandbox-image=NAME"
    )


class DockerSandbox:
    """One container; see :class:`pytest_shelleval.core.sandbox.Sandbox`."""

    def __init__(
        self,
        container: str,
        connection: Connection,
        image: str,
        output_limit: int,
        remove: Callable[[DockerSandbox], None],
    ) -> None:
        self.container = container
        self._id = f"docker-{container[:12]}"
        self._connection: Connection | None = connection
        self._image = image
        self._output_limit = output_limit
        self._remove = remove
        self._directory = START_DIRECTORY

    @property
    def id(self) -> str:
        """``docker-`` and the first twelve digits of the container's id."""
        return self._id

    @property
    def info(self) -> Mapping[str, Any]:
        """Kind, image and id."""
        return {"kind": "docker", "image": self._image, "id": self._id}

    def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
        """Run *text* in a fresh bash."""
        return self._run(inside.FRESH, text, timeout, cwd or START_DIRECTORY)

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        """Run *text* in the session."""
        return self._run(inside.SESSION, text, timeout, "")

    def session_directory(self) -> str:
        """The session's directory, or its last one if it has ended."""
        return self._directory

    def close(self) -> None:
        """Close the connection, which ends the container, and have it removed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._remove(self)

    def _run(self, operation: str, text: str, timeout: float, directory: str) -> ExecResult:
        if self._connection is None:
            raise SandboxError(f"Sandbox {self._id} is closed")
        nonce = secrets.token_hex(12)
        output = Output(self._output_limit, inside.marker(nonce))
        request = inside.request(nonce, operation, text, timeout, directory)
        # a long text takes bash a while to read
        seconds = timeout + _MARGIN_SECONDS + len(request) / 50_000
        try:
            record = self._connection.ask(nonce, request, output, seconds)
        except inside.SessionEnded:
            raise
        except (OSError, SandboxError) as error:
            self.close()
            raise SandboxError(
                f"Sandbox {self._id} failed: {error or type(error).__name__}"
            ) from error
        self._directory = record.directory
        return record.with_output(output.text(), truncated=output.truncated)


class DockerProvider:
    """Hands out Docker sandboxes, each used once, some of them created ahead."""

    def __init__(
        self,
        limits: Limits,
        *,
        image: str,
        pool_size: int = 1,
        network: bool = False,
        cpus: float | None = 1.0,
        run: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """The engine is not contacted before the first sandbox is requested.

        *network*: whether containers get the engine's default network, instead of none. *cpus*:
        processors for one container at most, None for all. *run*: the run's name in the containers'
        labels. *progress* is called with the progress of a pull, if the image is missing.
        """
        self._limits = limits
        self._image = image
        self._pool_size = pool_size
        self._network = network
        self._cpus = cpus
        self._labels = owner.labels(run or secrets.token_hex(8))
        self._progress = progress or (lambda line: None)
        self._lock = threading.Lock()
        self._api: Any = None
        self._spares: deque[Future[DockerSandbox]] = deque()
        self._given: dict[str, DockerSandbox] = {}
        self._makers: ThreadPoolExecutor | None = None
        self._removers: ThreadPoolExecutor | None = None

    @property
    def info(self) -> Mapping[str, Any]:
        """Kind and image."""
        return {"kind": "docker", "image": self._image}

    def acquire(self) -> DockerSandbox:
        """A fresh sandbox.

        Raises SandboxUnavailable when there is no engine or no image, else SandboxError.
        """
        with self._lock:
            self._open()
            assert self._makers is not None
            while len(self._spares) <= self._pool_size:
                self._spares.append(self._makers.submit(self._make))
            spare = self._spares.popleft()
        sandbox = spare.result()
        with self._lock:
            self._given[sandbox.id] = sandbox
        return sandbox

    def _open(self) -> None:
        """Connect to the engine, find the image, and remove the containers of dead runs."""
        if self._api is None:
            api = connect()
            try:
                self._find_image(api)
                owner.remove_leftovers(api)
                processors = int(api.info().get("NCPU", 1))
            except SandboxUnavailable:
                api.close()
                raise
            except _GONE as error:
                api.close()
                raise SandboxError(f"The Docker engine fails: {_first_line(error)}") from error
            self._api = api
            if self._cpus is not None:
                self._cpus = min(self._cpus, float(processors))
        if self._makers is None:
            self._makers = ThreadPoolExecutor(max(1, self._pool_size + 1), "docker-make")
            self._removers = ThreadPoolExecutor(2, "docker-remove")

    def _find_image(self, api: Any) -> None:
        try:
            api.inspect_image(self._image)
            return
        except docker.errors.ImageNotFound:
            pass
        repository, tag = docker.utils.parse_repository_tag(self._image)
        seen: set[str] = set()
        try:
            for event in api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in event:
                    raise SandboxUnavailable(_no_image(self._image, str(event["error"])))
                line = f"{self._image}: {event.get('id', '')} {event.get('status', '')}"
                if line not in seen:
                    seen.add(line)
                    self._progress(line)
            api.inspect_image(self._image)
        except _GONE as error:
            raise SandboxUnavailable(_no_image(self._image, _first_line(error))) from error

    def _make(self) -> DockerSandbox:
        api = self._api
        container = ""
        connection: Connection | None = None
        try:
            container = api.create_container_from_config(self._configuration(api))["Id"]
            streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            connection = Connection(api.attach_socket(container, streams))
            api.start(container)
            sandbox = DockerSandbox(
                container, connection, self._image, self._limits.output, self._forget
            )
            connection.ready(_READY_SECONDS)
            return sandbox
        except (*_GONE, SandboxError) as error:
            if connection is not None:
                connection.close()
            if container:
                self._remove(container)
            reason = _first_line(error)
            if "executable file not found" in reason or "no such file" in reason:
                raise SandboxUnavailable(
                    _no_image(self._image, f"it has no /bin/bash ({reason})")
                ) from error
            raise SandboxError(f"No Docker sandbox could be created: {reason}") from error

    def _configuration(self, api: Any) -> dict[str, Any]:
        limits = self._limits
        host = api.create_host_config(
            auto_remove=True,
            # The supervisor is the first process: it reaps orphans like docker-init, but unlike
            # docker-init it does not end when a command kills everything it can.
            init=False,
            network_mode="bridge" if self._network else "none",
            mem_limit=limits.memory,
            memswap_limit=limits.memory,
            pids_limit=limits.processes + 8,
            nano_cpus=None if self._cpus is None else int(self._cpus * 1e9),
            cap_drop=["ALL"],
            cap_add=_CAPABILITIES,
            ulimits=[
                {"Name": "core", "Soft": 0, "Hard": 0},
                {"Name": "fsize", "Soft": limits.disk, "Hard": limits.disk},
            ],
            log_config={"Type": "none", "Config": {}},
        )
        configuration: dict[str, Any] = api.create_container_config(
            image=self._image,
            entrypoint=["/bin/bash", "--noprofile", "--norc", "-c", _START, "supervisor"],
            command=[START_DIRECTORY],
            user="0:0",
            hostname="sandbox",
            working_dir=START_DIRECTORY,
            environment=_ENVIRONMENT,
            labels=self._labels,
            stdin_open=True,
            tty=False,
            host_config=host,
        )
        # The first process gets EOF, and ends, when the attached client disconnects.
        configuration.update(AttachStdin=True, StdinOnce=True)
        return configuration

    def _forget(self, sandbox: DockerSandbox) -> None:
        with self._lock:
            self._given.pop(sandbox.id, None)
            removers = self._removers
        if removers is None:
            self._remove(sandbox.container)
            return
        with contextlib.suppress(RuntimeError):
            removers.submit(self._remove, sandbox.container)

    def _remove(self, container: str) -> None:
        for pause in (0.2, 1.0, 0.0):
            try:
                self._api.remove_container(container, force=True, v=True)
                return
            except docker.errors.NotFound:
                return
            except _GONE as error:
                if "already in progress" in str(error):
                    return  # it is removing itself
                time.sleep(pause)

    def close(self) -> None:
        """Remove all containers of this provider and wait, for a limited time, until they are gone."""
        with self._lock:
            makers, self._makers = self._makers, None
            removers, self._removers = self._removers, None
            spares = list(self._spares)
            self._spares.clear()
            given = list(self._given.values())
        if makers is None:
            return
        makers.shutdown(wait=True, cancel_futures=True)
        for spare in spares:
            if not spare.cancelled() and spare.exception() is None:
                given.append(spare.result())
        for sandbox in given:
            sandbox.close()
        if removers is not None:
            removers.shutdown(wait=True)
        self._wait_until_gone()
        with contextlib.suppress(Exception):
            self._api.close()
        self._api = None

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + _END_SECONDS
        mine = [
            f"{owner.RUN}={self._labels[owner.RUN]}",
            f"{owner.OWNER}={self._labels[owner.OWNER]}",
        ]
        with contextlib.suppress(*_GONE):
            while time.monotonic() < deadline:
                if not self._api.containers(all=True, filters={"label": mine}):
                    return
                time.sleep(0.05)
