"""Whether a text is bash, by bash itself: parsed on this machine and never executed."""

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
    """What ``bash -n`` says of *text*, one line; empty where it has nothing to say.

    None where bash can't be asked: there is none here, or the text is longer than 100,000
    characters, or it takes bash more than 5 s.
    """
    bash = shutil.which("bash")
    if bash is None or len(text) > _LONGEST:
        return None
    # an option of shopt changes what is parsed after it, but only when it is executed
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
