"""SoS's protocol as calls: one method per endpoint, one exception per kind of failure."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import httpx

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.redaction import hide, passwords_in

_CONNECT_SECONDS = 10.0
_SHORT_SECONDS = 30.0
_OURS = "pytest-shelleval"


class Unreachable(SandboxError):  # noqa: N818 - a state
    """The server did not answer, or answered that it can't serve now; it may later."""


class Refused(SandboxError):  # noqa: N818 - what happened
    """The server answered with an error: *status* and *text*."""

    def __init__(self, what: str, status: int, text: str) -> None:
        text = " ".join(text.split())[:500]
        super().__init__(f"{what}: HTTP {status} {text}".rstrip())
        self.status = status
        self.text = text


class Health:
    """The health report of our own server; other servers have none."""

    def __init__(self, answer: dict[str, Any] | None) -> None:
        self.ours = answer is not None
        """Whether its session can be trusted, and it accepts ``timeout`` and ``cwd``."""
        self.max_sandboxes = _whole(answer, "max_sandboxes")
        self.free = _whole(answer, "free")


def _whole(answer: dict[str, Any] | None, name: str) -> int | None:
    value = (answer or {}).get(name)
    return value if isinstance(value, int) else None


class Api:
    """Calls to SoS servers; safe to use from several threads.

    Every call raises Unreachable or Refused, which are SandboxErrors, or SandboxUnavailable.
    """

    def __init__(self, urls: list[str], token: str | None) -> None:
        hide([token, *passwords_in(urls)])
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(
            headers=headers,
            # A proxy can't reach this machine's loopback.
            trust_env=not all(_is_loopback(url) for url in urls),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def health(self, url: str) -> Health:
        """The server's health report; the original SoS has no such route."""
        response = self._send("GET", url, "/healthz", None, _SHORT_SECONDS)
        try:
            answer = response.json() if response.status_code == 200 else None
        except (ValueError, RecursionError):
            answer = None
        ours = isinstance(answer, dict) and answer.get("server") == _OURS
        return Health(answer if ours else None)

    def create(self, url: str, image: str) -> str:
        """Create a sandbox, not started yet; returns its id."""
        body = {"image": image, "setup_commands": []}
        response = self._send("POST", url, "/sandboxes", body, _SHORT_SECONDS)
        if response.status_code in (404, 405):
            raise SandboxUnavailable(
                f"The server at {url} is no SoS server (HTTP {response.status_code} to POST "
                "/sandboxes). Check --shelleval-sos-url."
            )
        answer = self._answer(response, f"{url} created no sandbox")
        identity = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(identity, str) or not identity:
            raise SandboxUnavailable(
                f"The server at {url} is no SoS server: its reply has no id of a sandbox. "
                "Check --shelleval-sos-url."
            )
        return identity

    def start(self, url: str, identity: str, seconds: float) -> None:
        """Start a sandbox; waits while the server is full, *seconds* at most."""
        path = f"/sandboxes/{identity}/start"
        response = self._send("POST", url, path, None, seconds)
        if response.status_code == 400 and "pull image" in response.text:
            raise SandboxUnavailable(
                f"The SoS server at {url} can't get the image: {' '.join(response.text.split())}\n"
                "Load it there (docker pull, docker load), or use another: --shelleval-sandbox-image"
            )
        self._check(response, f"{url} started no sandbox")

    def exec(self, url: str, identity: str, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The reply to an exec request *body*."""
        path = f"/sandboxes/{identity}/exec"
        response = self._send("POST", url, path, body, seconds)
        what = f"Sandbox {identity} at {url} failed"
        if response.status_code == 404:
            raise Refused(f"{what}: the server has lost it (restarted?)", 404, response.text)
        answer = self._answer(response, what)
        if not isinstance(answer, dict) or not isinstance(answer.get("output"), str):
            raise SandboxError(f"{what}: the reply is not the result of a command")
        return answer

    def stop(self, url: str, identity: str) -> None:
        """Stop and remove a sandbox; one that does not exist or was not started counts as stopped."""
        path = f"/sandboxes/{identity}/stop"
        response = self._send("POST", url, path, {"remove": True}, _SHORT_SECONDS)
        if response.status_code not in (400, 404):
            self._check(response, f"Sandbox {identity} at {url} was not stopped")

    def _send(
        self, method: str, url: str, path: str, body: dict[str, Any] | None, seconds: float
    ) -> httpx.Response:
        limits = httpx.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
        try:
            response = self._client.request(method, url + path, json=body, timeout=limits)
        except httpx.InvalidURL as error:
            raise SandboxUnavailable(f"Not a usable address: {url!r} ({error})") from error
        except httpx.UnsupportedProtocol as error:
            raise SandboxUnavailable(
                f"Not a usable address: {url!r}. It must start with http:// or https://"
            ) from error
        except httpx.TimeoutException as error:
            raise Unreachable(f"{url} did not answer within {seconds:g} s") from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{url} can't be reached: {reason}") from error
        except UnicodeEncodeError as error:
            raise SandboxError(f"The text can't be sent to {url}: {error}") from error
        if response.status_code in (401, 403):
            raise SandboxUnavailable(
                f"{url} wants another bearer token (HTTP {response.status_code}). Set it: "
                "export SHELLEVAL_SOS_TOKEN=..."
            )
        if response.status_code == 421:
            raise SandboxUnavailable(f"{url} refuses: {' '.join(response.text.split())[:500]}")
        if response.status_code in (429, 502, 503):
            raise Unreachable(f"{url} can't serve now (HTTP {response.status_code})")
        return response

    def _check(self, response: httpx.Response, what: str) -> None:
        if response.status_code != 200:
            raise Refused(what, response.status_code, response.text)

    def _answer(self, response: httpx.Response, what: str) -> Any:
        self._check(response, what)
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise SandboxError(f"{what}: the reply is not JSON") from error


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
