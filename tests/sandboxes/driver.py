"""Serves a LocalProvider over stdin and stdout, so that a test can use one of another user."""

from __future__ import annotations

import base64
import dataclasses
import json
import select
import sys
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.sandboxes.base import Limits
from pytest_shelleval.sandboxes.local.provider import LocalProvider, LocalSandbox


def main() -> None:
    rootfs = Path(sys.argv[2]) if sys.argv[2] else None
    provider = LocalProvider(Limits(**json.loads(sys.argv[1])), rootfs=rootfs)
    sandboxes: dict[str, LocalSandbox] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = serve(provider, sandboxes, request)
        except SandboxError as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        print(json.dumps(answer), flush=True)
    provider.close()


def serve(
    provider: LocalProvider, sandboxes: dict[str, LocalSandbox], request: dict[str, Any]
) -> dict[str, Any]:
    operation = request.pop("do")
    if operation == "acquire":
        sandbox = provider.acquire()
        sandboxes[sandbox.id] = sandbox
        return {"id": sandbox.id, "facts": dict(provider.facts), "info": dict(sandbox.info)}
    if operation == "stop":
        provider.close()
        return {}
    sandbox = sandboxes[request.pop("id")]
    if operation == "exec":
        return dataclasses.asdict(sandbox.exec(**request))
    if operation == "exec_session":
        return dataclasses.asdict(sandbox.exec_session(**request))
    if operation == "snapshot":
        taken = sandbox.snapshot()
        return {"data": taken and base64.b64encode(taken).decode()}
    if operation == "restore":
        sandbox.restore(base64.b64decode(request["data"]))
        return {}
    if operation == "directory":
        return {"directory": sandbox.session_directory()}
    if operation == "mark":
        sandbox.mark()
        return {}
    if operation == "effects":
        return dict(sandbox.effects())
    if operation == "gone":
        return {"gone": gone(sandbox)}
    sandbox.close()
    return {}


def gone(sandbox: LocalSandbox, seconds: float = 10) -> bool:
    """Whether the first process of *sandbox* has ended, and so every other."""
    poll = select.poll()
    poll.register(sandbox.process, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


if __name__ == "__main__":
    main()
