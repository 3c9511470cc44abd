"""Whether a text is valid bash: parsed by this machine's bash, never executed."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess

_SECONDS = 5
_LONGEST = 100_000
_WHERE = re.compile(r"^.*?bash: (?:-c: )?(?:line \d+: )?")
_UNFINISHED = re.compile(r"unexpected end of file|unexpected EOF|here-document .* end-of-file")


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> str | None:
    """The first line of what ``bash -n`` says about *text*; empty if it finds no fault.

    None if bash can't tell: it is not installed, or the text is longer than 100,000 characters, or
    bash takes more than 5 s.
    """
    bash = shutil.which("bash")
    if bash is None or len(text) > _LONGEST:
        return None
    # shopt changes how the text after it is parsed, but only when executed: -n needs the option
    extended = ["-O", "extglob"] if "extglob" in text else []
    try:
        done = subprocess.run(
            [bash, "--norc", "--noprofile", *extended, "-n"],
            input=text.replace("\0", "").encode("utf-8", "replace"),
            env={"LC_ALL": "C.UTF-8", "PATH": os.defpath},
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = done.stderr.decode("utf-8", "replace").strip()
    return _WHERE.sub("", said.partition("\n")[0])


def unfinished(text: str) -> bool:
    """Whether bash would read on after *text*: a quote, a block or a here-document is open."""
    return bool(_UNFINISHED.search(parse(text) or ""))
