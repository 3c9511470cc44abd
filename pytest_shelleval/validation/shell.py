"""Finds the programs that shell text calls, with their words: enough of bash's grammar for advice.

Comments, here-documents, arithmetic and quoted strings contain no calls; command substitutions and
the text given to ``bash -c`` and ``eval`` do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_shelleval.validation.scanner import Scanner

_DEEPEST = 20
_ASSIGNMENT = re.compile(r"\w+(\[[^]]*\])?\+?=")
_KEYWORDS = frozenset("if then else elif while until do ! time { } ((".split())  # noqa: SIM905
_HEADS = frozenset(("for", "select", "case", "function", "in", "done", "fi", "esac"))
_SHELLS = frozenset(("bash", "sh", "dash"))
# Programs that run the command that follows, with their options that take a value.
_WRAPPERS: dict[str, str] = {
    "builtin": "",
    "command": "",
    "env": "-u -C -S",
    "exec": "-a",
    "ionice": "-c -n",
    "nice": "-n",
    "nohup": "",
    "setsid": "",
    "stdbuf": "-i -o -e",
    "sudo": "-u -g -h -p -C -D",
    "time": "-f -o",
    "timeout": "-s -k",
    "xargs": "-I -n -P -L -d -a -s -E",
}
_ONLY_LOOKS = frozenset(("-v", "-V"))


@dataclass(frozen=True, slots=True)
class Call:
    """One program and its words, without quotes."""

    program: str
    words: tuple[str, ...]
    """What follows the program."""
    reads: tuple[str, ...] = ()
    """Files whose content is its input (``< file``)."""


def calls(text: str) -> list[Call]:
    """The calls in *text*, in order; a wrapper such as ``sudo`` and the program it runs are two."""
    return list(_calls(text, 0))


def last_call(text: str) -> tuple[str, Call] | None:
    """The operator before the last call of *text* (``;`` if there is none), and that call.

    None if *text* ends in something else: ``fi``, an assignment.
    """
    scanner = Scanner(text)
    simple = scanner.outermost()
    if not simple or simple[-1][0][:1] == ["fi"]:
        return None
    found = list(_unwrapped(*simple[-1]))
    return (scanner.operator, found[-1]) if found else None


def _calls(text: str, depth: int) -> Iterator[Call]:
    for words, reads in Scanner(text).all():
        for call in _unwrapped(words, reads):
            yield call
            inner = _inner_text(call)
            if inner and depth < _DEEPEST:
                yield from _calls(inner, depth + 1)


def _inner_text(call: Call) -> str:
    """The shell text that *call* runs, if any."""
    if call.program == "eval":
        return " ".join(call.words)
    name = call.program.rpartition("/")[2]
    if name in _SHELLS or name in ("su", "runuser"):
        for option, value in zip(call.words, call.words[1:], strict=False):
            if re.fullmatch(r"-[a-z]*c", option):
                return value
    return ""


def _unwrapped(words: Sequence[str], reads: tuple[str, ...]) -> Iterator[Call]:
    """The call in *words*, and those that it wraps."""
    rest = list(words)
    while rest:
        while rest and (rest[0] in _KEYWORDS or _ASSIGNMENT.match(rest[0])):
            del rest[0]
        if not rest or rest[0] in _HEADS:
            return
        program, *rest = rest
        yield Call(program, tuple(rest), reads)
        takes = _WRAPPERS.get(program)
        if takes is None or (rest and rest[0] in _ONLY_LOOKS):
            return
        while rest and rest[0].startswith("-"):
            valued = rest[0] in takes.split()
            del rest[: 2 if valued else 1]
        if program == "timeout":
            del rest[:1]
