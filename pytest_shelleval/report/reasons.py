"""Why a command did not pass, in the words of someone who uses a shell."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_shelleval.core.summary import status_of

ReasonKind = Literal[
    "error",
    "syntax",
    "not-found",
    "permission",
    "input",
    "network",
    "timeout",
    "limit",
    "no-file",
    "usage",
    "killed",
    "exit",
    "condition",
    "score",
]


@dataclass(frozen=True, slots=True)
class Reason:
    """A kind for programs, and a label, the same for all results of the kind, with its detail."""

    kind: ReasonKind
    label: str
    detail: str = ""

    @property
    def text(self) -> str:
        """One line: ``label: detail``."""
        return f"{self.label}: {self.detail}" if self.detail else self.label


def label_of(text: str) -> str:
    """The label of a reason's *text*, by which reasons are counted."""
    return text.partition(": ")[0]


_SHOWN = 120  # characters of output that a reason quotes
_TAIL = 8_000  # characters of output that are looked at: what ended the command stands last

_SYNTAX = re.compile(
    r"^(?:\S*bash|-?sh|eval|environment)?:? ?(?:-c: )?(?:line \d+: |eval: line \d+: )*"
    r"((?:syntax error|unexpected EOF while looking for|unexpected end of file|"
    r"conditional binary operator expected)\b.*)$",
    re.MULTILINE,
)
_SAYS_SYNTAX = re.compile(r"^syntax error:? ")
_WHERE = re.compile(r"^\S*bash: (?:line \d+: )?")
_PROMPTS = re.compile(r"\bread\s+(?:-\w+\s+)*-\w*p\b")
_NOT_FOUND = re.compile(
    r"^(?:.*?: )?(?:line \d+: )?(?P<name>[^\s:]+): (?:command )?not found$|"
    r"^(?:/usr/bin/)?env: [‘'\"]?(?P<env>[^\s:’'\"]+)[’'\"]?: No such file or directory$|"
    r"^(?:exec|xargs|nohup|timeout|sudo|find): (?:failed to run command )?"
    r"[‘'\"]?(?P<run>[^\s:’'\"/]+)[’'\"]?: (?:No such file or directory|command not found)$",
    re.MULTILINE,
)
_NETWORK = re.compile(
    r"^.*(?:could not resolve|temporary failure (?:in name resolution|resolving)|"
    r"network is unreachable|no route to host|name or service not known|"
    r"unable to resolve host address|failed to establish a new connection|getaddrinfo|"
    r"no address associated with hostname|could not connect to \S+:\d|"
    r"failed to connect to \S+ port|connection timed out|err_name_not_resolved|"
    r"connecterror|enotfound).*$",
    re.MULTILINE | re.IGNORECASE,
)
_INPUT = re.compile(
    r"^.*(?:\[y/n\]|\(y/n\)|\(yes/no(?:/\[fingerprint\])?\)|(?:password|passphrase)[^:\n]*: *$|"
    r"a terminal is required|is not a terminal|not a tty|inappropriate ioctl for device|"
    r"input is not from a terminal|error opening terminal|no tty present|"
    r"EOFError: EOF when reading).*$",
    re.MULTILINE | re.IGNORECASE,
)
_PERMISSION = re.compile(
    r"^.*(?:permission denied|operation not permitted|read-only file system|"
    r"are you root|must be (?:run as )?root|(?:only|requires?) (?:the )?super-?user).*$",
    re.MULTILINE | re.IGNORECASE,
)
_NO_FILE = re.compile(r"^.*no such file or directory.*$", re.MULTILINE | re.IGNORECASE)
_USAGE = re.compile(
    r"^.*(?:invalid option|unrecognized option|unknown option|illegal option|invalid argument|"
    r"unknown predicate|missing operand|missing argument|extra operand|option requires an "
    r"argument|unrecognized arguments?).*$",
    re.MULTILINE | re.IGNORECASE,
)
_BY_OUTPUT: tuple[tuple[ReasonKind, str, re.Pattern[str]], ...] = (
    ("network", "needs the network", _NETWORK),
    ("input", "waits for input", _INPUT),
    ("permission", "permission denied", _PERMISSION),
    ("usage", "wrong option or argument", _USAGE),
    ("no-file", "no such file", _NO_FILE),
)


def reason_of(record: Mapping[str, Any]) -> Reason | None:
    """Why the command of one line of results.jsonl did not pass; None when it passed.

    What a command printed is evidence and no proof: its message is quoted as the detail. An error,
    which is not the model's doing, is only ever of kind ``error``.
    """
    status = status_of(record)
    if status == "passed":
        return None
    if status == "error":
        kind = record.get("error_kind") or ("sandbox" if _command(record) else "inference")
        return Reason("error", f"{kind} error", _quote(str(record.get("error") or "")))
    output = str(record.get("command_output") or "")[-_TAIL:]
    if record.get("timed_out"):
        return _timed_out(output)
    if record.get("limit") is not None:
        return Reason("limit", f"over the limit on {record['limit']}")
    code = record.get("command_exit_code")
    if not record.get("command_success"):
        return _failed(record, output, code if isinstance(code, int) else None)
    return _not_met(record, output)


def _timed_out(output: str) -> Reason:
    last = output.rstrip("\n").rpartition("\n")[2]
    if _INPUT.search(last):
        return Reason("input", "waits for input", f"timed out at {_quote(last)}")
    found = _NETWORK.search(output)
    if found:
        return Reason("network", "needs the network", _quote(found[0]))
    return Reason("timeout", "timed out")


def _failed(record: Mapping[str, Any], output: str, code: int | None) -> Reason:
    found = _SYNTAX.search(output)
    if found and code in (1, 2):
        return Reason("syntax", "syntax error", _quote(_SAYS_SYNTAX.sub("", found[1])))
    missing = _missing(output)
    if code == 127 or missing:
        return Reason("not-found", "command not found", missing)
    for kind, label, pattern in _BY_OUTPUT:
        found = pattern.search(output)
        if found:
            return Reason(kind, label, _quote(found[0]))
    if code == 126:
        return Reason("permission", "permission denied", "what it calls can't be executed")
    if code is not None and code > 128:
        return Reason("killed", f"killed by {_signal(code - 128)}")
    if code == 1 and not output and _PROMPTS.search(str(record.get("generated_command"))):
        return Reason("input", "waits for input", "read finds its input at the end")
    if record.get("exited"):
        return Reason("exit", f"exit code {code}", "it left the shell")
    if code is None:
        return Reason("exit", "the command ended without an exit code")
    return Reason("exit", f"exit code {code}", _quote(_last_line(output)))


def _not_met(record: Mapping[str, Any], output: str) -> Reason:
    if record.get("test_timed_out"):
        return Reason("timeout", "the condition timed out")
    score = record.get("score")
    if isinstance(score, (int, float)):
        return Reason("score", "the score is less than 1", f"{score:g}")
    missing = _missing(output)
    if missing:  # in a pipeline or a list, whose last command hides it
        return Reason("not-found", "command not found", missing)
    code = record.get("test_exit_code")
    if code in (126, 127):
        tested = _missing(str(record.get("test_output") or "")[-_TAIL:])
        return Reason(
            "condition", "the condition could not run", tested and f"{tested} is not there"
        )
    return Reason("condition", "condition not met")


def _missing(output: str) -> str:
    """The command that a message says is not there; empty where none does."""
    found = _NOT_FOUND.search(output)
    return _quote(next(name for name in found.groups() if name)) if found else ""


def _command(record: Mapping[str, Any]) -> bool:
    return record.get("generated_command") is not None


def _last_line(output: str) -> str:
    return output.rstrip().rpartition("\n")[2]


def _quote(text: str) -> str:
    line = _WHERE.sub("", " ".join(text.split()))
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
