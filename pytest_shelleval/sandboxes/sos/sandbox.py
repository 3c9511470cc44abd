"""One sandbox of an SoS server."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.redaction import redacted
from pytest_shelleval.core.sandbox import ExecResult
from pytest_shelleval.sandboxes import container_supervisor as inside
from pytest_shelleval.sandboxes.sos import relay
from pytest_shelleval.sandboxes.sos.api import Api, Refused

_MARGIN_SECONDS = 30.0
_SHORT_SECONDS = 60.0
_PROCESS = re.compile("[0-9]{1,9}")


class SosSandbox:
    """One sandbox; see :class:`pytest_shelleval.core.sandbox.Sandbox`.

    ``info["exec_mode"]`` is ``session`` if the server's session is used, which is reliable only on
    our own server, and ``standalone`` if every text runs under our own bash, started and reached by
    standalone execs.
    """

    def __init__(
        self,
        api: Api,
        url: str,
        identity: str,
        *,
        image: str,
        ours: bool,
        output_limit: int,
        stop: Callable[[SosSandbox], None],
        failed: Callable[[SosSandbox], None],
    ) -> None:
        self.url = url
        self._api = api
        self._id = identity
        self._image = image
        self._ours = ours
        self._output_limit = output_limit
        self._stop = stop
        self._failed = failed
        self._closed = False
        self._fault = ""
        self._process: int | None = None
        self._had_session = False
        self._earlier: str | None = None
        self._directory = ""

    @property
    def id(self) -> str:
        """The server's id."""
        return self._id

    @property
    def info(self) -> Mapping[str, Any]:
        """Kind, image, id, the server and the way commands are run."""
        return {
            "kind": "sos",
            "image": self._image,
            "id": self._id,
            "url": redacted(self.url),
            "exec_mode": "session" if self._ours else "standalone",
        }

    def prepare(self) -> None:
        """Start the supervisor ahead, so that the first text does not wait for it."""
        if not self._ours:
            self._guarded(self._start_supervisor)

    def exec(self, text: str, *, timeout: float, cwd: str | None = None) -> ExecResult:
        """Run *text* in a fresh bash."""
        if self._ours:
            body = {"command": text, "standalone": True, "timeout": timeout, "cwd": cwd}
            return self._guarded(lambda: self._ask_ours(body, timeout))
        return self._guarded(lambda: self._relayed(inside.FRESH, text, timeout, cwd or ""))

    def exec_session(self, text: str, *, timeout: float) -> ExecResult:
        """Run *text* in the session."""
        if self._ours:
            body = {"command": text, "standalone": False, "timeout": timeout}
            return self._guarded(lambda: self._ask_ours(body, timeout))
        return self._guarded(lambda: self._relayed(inside.SESSION, text, timeout, ""))

    def session_directory(self) -> str:
        """The session's directory, or its last one if it has ended; empty for the start directory."""
        return self._directory

    def close(self) -> None:
        """Have the server stop the sandbox."""
        if not self._closed:
            self._closed = True
            self._stop(self)

    def _guarded(self, call: Callable[[], ExecResult | None]) -> ExecResult:
        """The result of *call*; after a fault the sandbox is not used again."""
        if self._closed:
            raise SandboxError(f"Sandbox {self._id} is closed")
        if self._fault:
            raise SandboxError(self._fault)
        try:
            return call() or ExecResult("", 0)
        except inside.SessionEnded:
            raise
        except SandboxError as error:
            self._fault = str(error)
            self._failed(self)
            raise

    # --- our own server

    def _ask_ours(self, body: dict[str, Any], timeout: float) -> ExecResult:
        body["command"] = _sendable(body["command"])
        if body.get("cwd"):
            body["cwd"] = _sendable(body["cwd"])
        try:
            answer = self._api.exec(self.url, self._id, body, timeout + _MARGIN_SECONDS)
        except Refused as refusal:
            if refusal.status == 400 and "already exited" in refusal.text:
                raise inside.SessionEnded(
                    "The session has ended; only fresh shells can be run"
                ) from refusal
            raise
        try:
            code = answer["exit_code"]
            if code is not None and (not isinstance(code, int) or not 0 <= code <= 255):
                raise ValueError(f"exit code {code!r}")
            limit = answer["limit"]
            if limit is not None and not isinstance(limit, str):
                raise ValueError(f"limit {limit!r}")
            done = ExecResult(
                output=answer["output"],
                exit_code=code,
                exited=answer["exited"] is True,
                timed_out=answer["timed_out"] is True,
                truncated=answer["truncated"] is True,
                limit=limit,
                duration=float(answer["duration"]),
            )
            self._directory = str(answer["directory"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise SandboxError(f"{self.url} sent an invalid reply: {str(error)[:200]}") from error
        return done

    # --- any other server

    def _standalone(self, script: str, seconds: float) -> dict[str, Any]:
        body = {"command": script, "standalone": True}
        return self._api.exec(self.url, self._id, body, seconds)

    def _start_supervisor(self) -> None:
        reply = self._standalone(relay.start_script(), _SHORT_SECONDS)
        output = reply["output"].strip()
        if reply.get("exit_code") != 0 or not _PROCESS.fullmatch(output):
            raise SandboxError(
                f"The supervisor does not start in sandbox {self._id} at {self.url}: {output[-300:]}"
            )
        self._process = int(output)

    def _relayed(self, operation: str, text: str, timeout: float, directory: str) -> ExecResult:
        if self._process is None:
            if operation == inside.SESSION and self._had_session:
                raise inside.SessionEnded("The session has ended; only fresh shells can be run")
            self._start_supervisor()
        assert self._process is not None
        self._had_session = self._had_session or operation == inside.SESSION
        nonce = secrets.token_hex(12)
        scripts = relay.scripts(
            self._process, nonce, operation, text, timeout, directory, self._output_limit
        )
        for script in scripts[:-1]:
            self._standalone(script, _SHORT_SECONDS)
        seconds = timeout + _MARGIN_SECONDS + len(text) / 50_000
        reply = self._standalone(scripts[-1], seconds)
        earlier, self._earlier = self._earlier, nonce
        parsed = relay.parse(reply["output"], nonce, earlier, self._output_limit)
        if parsed is not None:
            record, output, truncated = parsed
            self._directory = record.directory
            return record.with_output(output, truncated=truncated)
        return self._disturbed(operation)

    def _disturbed(self, operation: str) -> ExecResult:
        """The relay gave no record: the command killed it or our bash, or this is a fault."""
        if self._supervisor_lives():
            raise SandboxError(
                f"Sandbox {self._id} at {self.url} did not say how the command ended"
            )
        # The killed supervisor is started again, for the success condition.
        self._process = None
        self._had_session = True
        return ExecResult("", 137, exited=operation == inside.SESSION)

    def _supervisor_lives(self) -> bool:
        reply = self._standalone(
            f"[[ -e /proc/{self._process}/fd/122 ]] && echo lives || echo gone", _SHORT_SECONDS
        )
        said: str = reply["output"].strip()
        if said not in ("lives", "gone"):
            raise SandboxError(f"Sandbox {self._id} at {self.url} does not answer as bash does")
        return said == "lives"


def _sendable(text: str) -> str:
    """*text* without lone surrogates, which JSON can't hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # Not the same bytes, but JSON can't hold others.
        return inside.encode(text).decode("utf-8", "replace")
    return text
