"""Commands that the documentation shows, as a shell would run them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?: {4}[^\n]*\n|\n(?= {4}))+)")
_NOTE = '{ printf "%s\\0" "${0##*/}" "$@"; printf "\\1\\0"; } >> "$DOCUMENTED_CALLS"\n'
_VENV = 'if [ "$2" = venv ]; then mkdir -p "$3/bin" && : > "$3/bin/activate"; fi\n'
PROGRAMS = ("pytest", "shelleval", "pip", "docker", "sudo", "jq", "python3")
SHELL = re.compile(rf"^(?:[A-Z_]+=\S+ )?(?:{'|'.join(PROGRAMS)}|export)(?: |$)")


@dataclass(frozen=True)
class Call:
    """One program that was called, with its arguments."""

    program: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.program, *self.arguments))


def shell_blocks(markdown: str) -> list[str]:
    """The code blocks of *markdown*, fenced or indented, that are shell commands.

    A block counts when its first line that is no comment calls one of :data:`PROGRAMS`.
    """
    blocks = [
        text for kind, text in _FENCE.findall(markdown) if kind in ("", "sh", "bash", "console")
    ]
    for block in _INDENTED.findall(_FENCE.sub("", markdown)):
        blocks.append(re.sub(r"^ {4}", "", block, flags=re.MULTILINE))
    return [block for block in blocks if _is_shell(block)]


def _is_shell(block: str) -> bool:
    lines = [line for line in block.splitlines() if line.strip() and not line.startswith("#")]
    return bool(lines and SHELL.match(lines[0]))


def calls_of(
    script: str,
    folder: Path,
    *,
    really: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[Call]:
    """What bash calls of :data:`PROGRAMS` when it runs *script* in *folder*.

    They do nothing but what *really* has for them, a piece of bash. Raises AssertionError when the
    script fails.
    """
    tools, log = folder / "tools", folder / "calls"
    tools.mkdir(exist_ok=True)
    for name in PROGRAMS:
        more = (really or {}).get(name, _VENV if name == "python3" else "")
        (tools / name).write_text(f"#!/bin/bash\n{_NOTE}{more}\n")
        (tools / name).chmod(0o755)
    log.write_bytes(b"")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **os.environ,
            **(environment or {}),
            "PATH": f"{tools}:/usr/bin:/bin",
            "DOCUMENTED_CALLS": str(log),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return [_call(each.split("\0")) for each in log.read_text().split("\1\0") if each]


def _call(words: Sequence[str]) -> Call:
    return Call(words[0], tuple(words[1:-1]))
