r"""Our own bash in a container that can only be reached by SoS's standalone exec.

SoS's session is an interactive bash on a terminal, and its prompt counting breaks on multiple lines,
tabs, long commands and much else. So it is not used: a standalone exec starts the supervisor in the
background, and a further standalone exec, the *relay*, passes each text to it through
``/proc/PID/fd``. The relay's output is one line of base64, because SoS decodes output piece by piece.
"""

from __future__ import annotations

import base64
import binascii

from pytest_shelleval.sandboxes import container_supervisor as inside

_PIECE = 20_000
_OUTPUTS = "exec 120<> <(:) 121<> <(:) 122<> <(:)\n"

_START = r"""
detach=; ! command -v setsid >/dev/null || detach=setsid
( exec $detach /bin/bash --noprofile --norc -c %(supervisor)s supervisor "$PWD" ) </dev/null >/dev/null 2>&1 &
supervisor=$!
exec 9<> <(:)
until [[ -e /proc/$supervisor/fd/125 ]]; do
    ((++turns < 1000)) || exit 1
    read -t 0.02 <&9
done
echo "$supervisor"
"""

# Sed stops at the end of this text's output; a line too long for it is lost, but not what follows.
_RELAY = r"""
[[ -e /proc/%(process)d/fd/122 ]] || { echo gone; exit; }
exec 3>/proc/%(process)d/fd/120 4</proc/%(process)d/fd/121 5</proc/%(process)d/fd/122 9<> <(:)
exec 8< <(ulimit -v 500000; exec sed '/^%(nonce)s$/q' <&4 2>/dev/null)
pump=$!
( while [[ -e /proc/%(process)d/fd/122 ]]; do read -t 0.5 <&9; done; kill -KILL $pump ) >/dev/null 2>&1 &
watch=$!
{
    # a moment later, so that all of these processes exist before the text runs
    ( read -t 0.02 <&9; printf '%%s\0' %(request)s >&3 ) &
    head -c %(limit)d <&8
    exec 8<&-
    # wait until it is dead, or it may still read output of the next text
    kill -KILL $pump
    wait $pump
    cat <&4 >/dev/null &
    drain=$!
    while IFS= read -r -d '' field <&5; do
        if [[ $field == %(nonce)s ]]; then fields=0; fi
        [[ -z $fields ]] || printf '%%s\0' "$field"
        [[ -z $fields ]] || ((++fields < 7)) || break
    done
    kill -KILL $drain
    wait $drain
} 2>/dev/null | base64 | tr -d '\n'
kill -KILL $watch 2>/dev/null
"""


def word(text: str) -> str:
    """*text* as one word of bash that JSON can hold."""
    text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        return "$'" + "".join(f"\\x{byte:02x}" for byte in inside.encode(text)) + "'"
    return "'" + text.replace("'", "'\\''") + "'"


def start_script() -> str:
    """Starts the supervisor and prints its process id."""
    return _START % {"supervisor": word(_OUTPUTS + inside.SUPERVISOR)}


def scripts(
    process: int,
    nonce: str,
    operation: str,
    text: str,
    timeout: float,
    directory: str,
    output_limit: int,
) -> list[str]:
    """The scripts to run, one standalone exec after another; the last is the relay.

    More than one if *text* is too long for an argument of a program.
    """
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)] or [""]
    first = [f"printf %s {word(piece)} >/proc/{process}/fd/120" for piece in pieces[:-1]]
    fields = (pieces[-1], nonce, operation, inside.milliseconds(timeout), directory)
    relay = _RELAY % {
        "process": process,
        "limit": output_limit + len(inside.marker(nonce)),
        "request": " ".join(word(field) for field in fields),
        "nonce": nonce,
    }
    return [*first, relay]


def parse(
    reply: str, nonce: str, earlier: str | None, output_limit: int
) -> tuple[inside.Record, str, bool] | None:
    """Record, output, and whether that was truncated, from a relay's *reply*; None if it is incomplete.

    *earlier* is the nonce of the previous text, whose output may come first. Raises SandboxError if
    the record is invalid or the session has ended.
    """
    try:
        data = base64.b64decode(reply.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    end = data.rfind(nonce.encode() + b"\0")
    record = inside.parse_record(data, nonce) if end >= 0 else None
    if record is None:
        return None
    output, found, _ = data[:end].partition(inside.marker(nonce))
    if earlier is not None:
        output = output.rpartition(inside.marker(earlier))[2]
    truncated = not found or len(output) > output_limit
    return record, output[:output_limit].decode("utf-8", "backslashreplace"), truncated
