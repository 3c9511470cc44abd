"""``shelleval serve``: runs the sandbox server."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.defaults import DEFAULT_IMAGE
from pytest_shelleval.sandboxes.server.hosts import is_loopback
from pytest_shelleval.sandboxes.server.registry import ProviderFactory

TOKEN_VARIABLE = "SHELLEVAL_SOS_TOKEN"
"""Environment variable that holds the bearer token, for servers and for clients."""
_UNITS = {"K": 10, "M": 20, "G": 30}
_GRACEFUL_SECONDS = 3
_log = logging.getLogger(__name__)


def serve(
    provider_factory: ProviderFactory,
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    max_sandboxes: int = 10,
    timeout: float = 600.0,
    token: str | None = None,
    allow_hosts: Sequence[str] = (),
    arrival: float = 30.0,
) -> None:
    """Serve until SIGINT or SIGTERM, then end every sandbox. *port* 0 chooses a free one.

    A request must arrive completely within *arrival* seconds. For the other parameters see
    :func:`pytest_shelleval.sandboxes.server.app.create_app`. Raises UserError for a non-loopback
    address without a token, and if Starlette or uvicorn is not installed.
    """
    if not token and not is_loopback(host):
        raise UserError(
            f"To serve on {host}, which other machines can reach, set a token: "
            f"export {TOKEN_VARIABLE}=$(openssl rand -hex 32)"
        )
    try:
        import uvicorn

        from pytest_shelleval.sandboxes.server.app import create_app
        from pytest_shelleval.sandboxes.server.arrival import within
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed. Type: pip install 'pytest-shelleval[serve]'"
        ) from error
    app = create_app(
        provider_factory,
        max_sandboxes=max_sandboxes,
        timeout=timeout,
        token=token or None,
        host=host,
        allow_hosts=allow_hosts,
    )
    if not token:
        _log.warning(
            "Every user of this machine can run commands as you through this server. "
            "To prevent that, set --token or %s.",
            TOKEN_VARIABLE,
        )
    uvicorn.run(
        app,
        http=within(arrival),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_GRACEFUL_SECONDS,
    )


def add_serve_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``serve`` to what ``ArgumentParser.add_subparsers()`` returned.

    Parsed arguments then hold ``run``, a function of them that gives the exit status.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "serve",
        help="serve sandboxes of this machine over SoS's protocol",
        description="Serve sandboxes of this machine over SoS's protocol, for --shelleval-sandbox=sos.",
    )
    _fill(parser)
    return parser


def _fill(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name by which clients may call this server, besides loopback and --host; "
        "may be repeated",
    )
    add("--port", type=int, default=3000, help="port to listen on (default: %(default)s)")
    add(
        "--sandbox",
        choices=("local", "docker"),
        default="local",
        help="kind of sandboxes to serve (default: %(default)s)",
    )
    add(
        "--image",
        default=None,
        help="docker: the one image to use, whatever clients ask for (default: what they ask for)",
    )
    add("--network", action="store_true", help="docker: give sandboxes a network")
    add(
        "--max-sandboxes",
        type=_at_least_one,
        default=10,
        help="sandboxes at a time; requests for more wait (default: %(default)s)",
    )
    add(
        "--timeout",
        type=float,
        default=600.0,
        help="time limit of a command, and of an unused sandbox, in seconds (default: %(default)g)",
    )
    add("--pool-size", type=int, default=2, help="sandboxes created ahead (default: %(default)s)")
    add("--memory", type=_bytes, default="1G", help="memory of a sandbox (default: %(default)s)")
    add("--disk", type=_bytes, default="256M", help="what it may write (default: %(default)s)")
    add("--processes", type=_at_least_one, default=256, help="its processes (default: %(default)s)")
    add("--output-limit", type=_bytes, default="1M", help="output kept (default: %(default)s)")
    add(
        "--token",
        default=None,
        help=f"bearer token that clients must send; better in the environment: {TOKEN_VARIABLE}",
    )
    parser.set_defaults(run=run)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1 is expected")
    return number


def _bytes(text: str) -> int:
    unit = _UNITS.get(text[-1:].upper())
    try:
        number = float(text[:-1] if unit else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (256M, 1G)") from None
    return int(number * (1 << (unit or 0)))


def run(arguments: argparse.Namespace) -> int:
    """Run the server with the parsed *arguments*; return the exit status."""
    limits = Limits(
        memory=arguments.memory,
        disk=arguments.disk,
        processes=arguments.processes,
        output=arguments.output_limit,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    token = arguments.token or os.environ.get(TOKEN_VARIABLE) or None
    serve(
        _factory(arguments, limits),
        host=arguments.host,
        port=arguments.port,
        max_sandboxes=arguments.max_sandboxes,
        timeout=arguments.timeout,
        token=token,
        allow_hosts=arguments.allow_host,
    )
    return 0


def _factory(arguments: argparse.Namespace, limits: Limits) -> ProviderFactory:
    pool_size: int = arguments.pool_size
    if arguments.sandbox == "local":
        from pytest_shelleval.sandboxes.local.provider import LocalProvider

        # one provider for all images: local sandboxes have none
        local = LocalProvider(limits, pool_size=pool_size)
        return lambda image: local
    try:
        from pytest_shelleval.sandboxes.docker_engine.provider import DockerProvider
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed. Type: pip install 'pytest-shelleval[docker]'"
        ) from error

    def provider(image: str) -> DockerProvider:
        image = image or DEFAULT_IMAGE
        return DockerProvider(limits, image=image, pool_size=pool_size, network=arguments.network)

    if arguments.image:
        fixed = provider(arguments.image)
        return lambda image: fixed
    return provider
