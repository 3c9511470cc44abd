"""The client's side of the process that sandboxes are forked from."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local import protocol

# Skips the package's own __init__: every sandbox would carry what it imports.
_CODE = (
    "import sys; package = type(sys)('pytest_shelleval'); package.__path__ = [sys.argv[1]]; "
    "sys.modules['pytest_shelleval'] = package; "
    "from pytest_shelleval.sandboxes.local.zygote import main; main(int(sys.argv[2]))"
)
_START_SECONDS = 30.0
_END_SECONDS = 5.0


class ZygoteRefused(Exception):  # noqa: N818 - what it did
    """The zygote reports that it can't create sandboxes here."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        super().__init__(str(facts.get("error")))
        self.facts = facts


class Zygote:
    """The client's side of the process that sandboxes are forked from."""

    def __init__(self, limits: Limits, image: Path | None = None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self._socket.settimeout(_START_SECONDS)
        root = str(Path(__file__).resolve().parents[2])
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _CODE, root, str(theirs.fileno())],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise SandboxError(f"The local sandbox's helper did not start: {error}") from error
        try:
            configuration = (limits.memory, limits.disk, limits.processes, limits.output)
            path = os.fsencode(image) if image is not None else b""
            ours.send(protocol.CONFIGURATION.pack(*configuration) + path)
            message = ours.recv(65536)
        except OSError as error:
            self.close()
            raise SandboxError(f"The local sandbox's helper does not answer: {error}") from error
        if not message:
            status = self._process.wait()
            self.close()
            raise SandboxError(f"The local sandbox's helper ended at once, status {status}")
        self.facts = protocol.unpack_facts(message)
        if "error" in self.facts:
            self.close()
            raise ZygoteRefused(self.facts)

    def request(self, with_shell: bool = False) -> socket.socket:
        """Request a sandbox; returns its control socket without waiting until it is ready.

        *with_shell* starts a fresh shell in it before the first text comes.
        """
        kind = protocol.WITH_SHELL if with_shell else protocol.PLAIN
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                socket.send_fds(self._socket, [kind], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End the process; its sandboxes end with their own sockets."""
        self._socket.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
