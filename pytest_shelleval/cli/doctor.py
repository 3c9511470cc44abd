"""``shelleval doctor``: which sandboxes work here, with which ids and limits; how to fix the rest."""

from __future__ import annotations

import getpass
import os
import platform
import textwrap
from collections.abc import Iterator

from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.version import __version__

_IDS = {
    "root": "a range of ids not used on the host: useradd, chown and su work inside",
    "subuid": "the ids of /etc/subuid: useradd, chown and su work inside",
    "single": "one id only: chown to others and su fail inside (to fix it, install uidmap or run as root)",
}


def run() -> int:
    """Print the report; return exit status 0 if the local sandbox works, else 1."""
    from pytest_shelleval.sandboxes.local.probe import probe

    report = probe()
    for line in _lines(report.ok, report.message, dict(report.facts)):
        print(textwrap.fill(line, 80, subsequent_indent=" " * 12) if len(line) > 80 else line)
    return 0 if report.ok else 1


def _lines(ok: bool, message: str, facts: dict[str, object]) -> Iterator[str]:
    yield f"pytest-shelleval {__version__}, Python {platform.python_version()}"
    yield f"machine   {platform.system()} {platform.release()}, {platform.machine()}"
    yield f"user      {_user()} (uid {os.getuid()})"
    yield ""
    if ok:
        yield "local     works: a command ran in a sandbox just now"
        mode = str(facts.get("ids", ""))
        meaning = next((text for name, text in _IDS.items() if name in mode), mode)
        yield f"  ids       {facts.get('id_count')}: {meaning}"
        yield f"  isolated  user, mount, pid, ipc, uts and network namespaces; seccomp {_yes(facts.get('seccomp'))}"
        yield f"  memory    {facts.get('memory_by')}"
        yield f"  disk      {facts.get('disk_by')}"
        yield f"  processes {facts.get('processes_by')}"
        if facts.get("read_only"):
            yield f"  read-only inside: {facts['read_only']}"
    else:
        yield "local     does not work here"
        yield from (f"  {line}" for line in message.splitlines())
    yield ""
    yield f"docker    {_docker()}"
    yield "sos       --shelleval-sos-url=URL names a server; shelleval serve starts one"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "without a name"


def _yes(value: object) -> str:
    return "on" if value else "off"


def _docker() -> str:
    try:
        from pytest_shelleval.sandboxes.docker_engine.provider import connect
    except ImportError:
        return "not installed: pip install 'pytest-shelleval[docker]'"
    try:
        api = connect(5)
    except SandboxUnavailable as error:
        return str(error).splitlines()[0]
    try:
        return f"works: engine {api.version().get('Version')}"
    finally:
        api.close()
