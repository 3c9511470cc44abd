"""Why a command did not pass, in terms that shell users know."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_shelleval.core.messages import missing_programs
from pytest_shelleval.core.results import Result, broken_by
from pytest_shelleval.core.summary import status_of
from pytest_shelleval.core.syntax import parse

ReasonKind = Literal[
    "error",
    "no-command",
    "broke",
    "syntax",
    "not-found",
    "script",
    "module",
    "permission",
    "input",
    "network",
    "service",
    "timeout",
    "limit",
    "no-file",
    "usage",
    "killed",
    "exit",
    "tampered",
    "condition",
    "score",
]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a command did not pass: a kind (for programs), a label (for people), a detail.

    Results are counted by label.
    """

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
_LAST_SIGNAL = 64
_TAIL = 8_000  # characters: only the end of an output is searched, where the fatal message is

_SYNTAX = re.compile(
    r"^(?:\S*bash|-?sh|eval|environment)?:? ?(?:-c: )?(?:line \d+: |eval: line \d+: )*"
    r"((?:syntax error|unexpected EOF while looking for|unexpected end of file|"
    r"conditional binary operator expected|"
    r"warning: here-document at line \d+ delimited by end-of-file)\b.*)$",
    re.MULTILINE,
)
_SAYS_SYNTAX = re.compile(r"^(?:syntax error:? |warning: )")
_WHERE = re.compile(r"^\S*bash: (?:line \d+: )?")
_PROMPTS = re.compile(r"\bread\s+(?:-\w+\s+)*-\w*p\b")
_NOT_FOUND = re.compile(r"^.*: command not found$", re.MULTILINE)
_ENDLESS = re.compile(
    r"(?:^|[\s;&|(])(tail\s+(?:-\w*\s+)*(?:-\w*[fF]|--follow)|watch|top|htop|journalctl\s+.*-f|"
    r"dmesg\s+-w|python3?\s+-m\s+http\.server|nc\s+-\w*l\w*)\b"
)
_METER = re.compile(r"^[\d\s:.kMG-]+(?=curl: )")


def _lines_with(words: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(rf"^.*(?:{words}).*$", re.MULTILINE | flags)


_NETWORK = _lines_with(
    r"could not resolve|temporary failure (?:in name resolution|resolving)|"
    r"network is unreachable|no route to host|name or service not known|"
    r"unable to resolve host address|failed to establish a new connection|getaddrinfo|"
    r"no address associated with hostname|could not connect to \S+:\d|"
    r"failed to connect to \S+ port|connection timed out|err_name_not_resolved|"
    r"\bconnecterror\b|\benotfound\b|unable to locate package|has no installation candidate|"
    r"could not find a version that satisfies"
)
_INPUT = _lines_with(
    r"\[y/n\]|\(y/n\)|\(yes/no(?:/\[fingerprint\])?\)|(?:password|passphrase)[^:\n]*: *$|"
    r"a terminal is required|is not a terminal|not a tty|failed tty get|"
    r"inappropriate ioctl for device|input is not from a terminal|error opening terminal|"
    r"no tty present|EOFError: EOF when reading|authentication token manipulation error"
)
_PERMISSION = _lines_with(
    r"permission denied|operation not permitted|read-only file system|"
    r"are you root|must be (?:run as )?root|(?:only|requires?) (?:the )?super-?user"
)
_SCRIPT = _lines_with(
    r"\bsyntax ?error\b|\bIndentationError\b|\bTabError\b|unexpected newline or end of string|"
    r"unterminated \S+ (?:command|string|regexp)|^sed: .*(?:unknown command|unknown option to)|"
    r"invalid regular expression|unmatched [\[({)]|compile error"
)
_MODULE = _lines_with(
    r"\bModuleNotFoundError\b|\bImportError\b|Cannot find module|Can't locate \S+\.pm"
)
_SERVICE = _lines_with(
    r"not been booted with systemd|failed to connect to (?:system scope )?bus|"
    r"cannot connect to the docker daemon|can't connect to local (?:mysql|server)|"
    r"is the server running (?:locally|on)|connection refused"
)
_NO_FILE = _lines_with(r"no such file or directory")
_USAGE = _lines_with(
    r"invalid option|unrecognized option|unknown option|illegal option|invalid argument|"
    r"unknown predicate|missing operand|missing argument|extra operand|option requires an "
    r"argument|unrecognized arguments?"
)
_BY_OUTPUT: tuple[tuple[ReasonKind, str, re.Pattern[str]], ...] = (
    ("script", "syntax error in a script", _SCRIPT),
    ("module", "module not found", _MODULE),
    ("network", "needs the network", _NETWORK),
    ("service", "needs a service that is not running", _SERVICE),
    ("input", "waits for input", _INPUT),
    ("permission", "permission denied", _PERMISSION),
    ("usage", "wrong option or argument", _USAGE),
    ("no-file", "no such file", _NO_FILE),
)


def reason_of(record: Mapping[str, Any]) -> Reason | None:
    """Why the command of one line of results.jsonl did not pass; None when it passed.

    A command's output is evidence, not proof: the message is quoted as the detail. Errors, which
    are not the model's fault, always have the kind ``error``.
    """
    status = status_of(record)
    if status == "passed":
        return None
    if status == "error":
        kind = record.get("error_kind") or ("sandbox" if _command(record) else "inference")
        return Reason("error", f"{kind} error", _quote(str(record.get("error") or "")))
    if not _command(record):
        return Reason("no-command", "no command", _quote(str(record.get("error") or "")))
    output = str(record.get("command_output") or "")[-_TAIL:]
    if record.get("timed_out"):
        return _timed_out(record, output)
    if record.get("limit") is not None:
        return Reason("limit", f"over the limit on {record['limit']}")
    broke = broken_by(record.get("sandbox") or {})
    if broke:
        return Reason("broke", "it broke its own sandbox", _quote(broke))
    code = record.get("command_exit_code")
    if not record.get("command_success"):
        return _failed(record, output, code if isinstance(code, int) else None)
    return _not_met(record, output)


_GENERAL = (
    "error",
    "broke",
    "timeout",
    "limit",
    "killed",
    "exit",
    "tampered",
    "condition",
    "score",
)
"""Kinds that say less than the result itself does."""


def sentence_of(result: Result) -> str:
    """Why *result* did not pass, in one line; empty when it passed.

    In terms that shell users know, if the output allows it.
    """
    reason = reason_of(result.to_record())
    if reason is None:
        return ""
    code = result.command_exit_code
    if reason.kind not in _GENERAL:
        return reason.text + ("" if code is None else f" (exit code {code})")
    if result.status == "error":
        return f"{result.error_kind} error: {result.error}"
    if result.timed_out:
        return "the command timed out"
    if result.limit is not None:
        return f"the command went over the limit on {result.limit}"
    if result.broke:
        return f"the command broke its sandbox: {result.broke}"
    if not result.command_success:
        return f"the command failed with exit code {result.command_exit_code}"
    if result.tampered:
        return (
            "the command replaced programs that the condition may use: "
            f"{', '.join(result.tampered)}"
        )
    if result.test_timed_out:
        return "the success condition timed out"
    if result.score is not None:
        return f"the score is {result.score:g}, less than 1"
    return f"the success condition is not met (exit code {result.test_exit_code})"


def _timed_out(record: Mapping[str, Any], output: str) -> Reason:
    last = output.rstrip("\n").rpartition("\n")[2]
    if _INPUT.search(last):
        return Reason("input", "waits for input", f"timed out at {_quote(last)}")
    found = _NETWORK.search(output)
    if found:
        return Reason("network", "needs the network", _quote(found[0]))
    endless = _ENDLESS.search(str(record["generated_command"]))
    if endless:
        return Reason("timeout", "timed out", f"{_quote(endless[1])} does not end by itself")
    return Reason("timeout", "timed out")


def _failed(record: Mapping[str, Any], output: str, code: int | None) -> Reason:
    if code in (1, 2) and (wrong := _wrong_syntax(record, output)):
        return wrong
    missing = _missing(record, output)
    if missing:
        return Reason("not-found", "command not found", missing)
    if code == 127 and not _NO_FILE.search(output):
        said = _NOT_FOUND.search(output)
        name = _quote(said[0]).removesuffix(": command not found") if said else ""
        return Reason("not-found", "command not found", name)
    for kind, label, pattern in _BY_OUTPUT:
        found = pattern.search(output)
        if found:
            return Reason(kind, label, _quote(found[0]))
    if code == 126:
        said_last = _quote(_last_line(output))
        return Reason("permission", "can't be executed", said_last)
    if code is not None and 128 < code <= 128 + _LAST_SIGNAL:
        return Reason("killed", f"killed by {_signal(code - 128)}")
    if code == 1 and not output and _PROMPTS.search(str(record.get("generated_command"))):
        return Reason("input", "waits for input", "read gets no input")
    asked = _asked_the_network(record)
    if asked:
        return Reason("network", "needs the network", asked)
    if record.get("exited"):
        return Reason("exit", f"exit code {code}", "it left the shell")
    if code is None:
        return Reason("exit", "the command ended without an exit code")
    return Reason("exit", f"exit code {code}", _quote(_last_line(output)))


def _wrong_syntax(record: Mapping[str, Any], output: str) -> Reason | None:
    """A syntax error of the command itself, not of something that it ran; None if it has none."""
    found = _SYNTAX.search(output)
    if not found:
        return None
    said = parse(str(record["generated_command"]))
    if said is None:
        said = found[1]  # no bash on this machine
    if not said:
        return None
    cut = " (the reply was cut at its limit)" if record.get("finish_reason") == "length" else ""
    return Reason("syntax", "syntax error", _quote(_SAYS_SYNTAX.sub("", said)) + cut)


def _not_met(record: Mapping[str, Any], output: str) -> Reason:
    tampered = record.get("tampered")
    if tampered:
        return Reason(
            "tampered",
            "it replaced programs that the condition may use",
            _quote(", ".join(tampered)),
        )
    if record.get("test_timed_out"):
        return Reason("timeout", "the condition timed out")
    score = record.get("score")
    if isinstance(score, (int, float)):
        return Reason("score", "the score is less than 1", f"{score:g}")
    missing = _missing(record, output)
    if missing:  # in a pipeline or a list, whose last command hides the exit code
        return Reason("not-found", "command not found", missing)
    wrong = _wrong_syntax(record, output)
    if wrong:
        return wrong
    tested = str(record.get("test_output") or "")[-_TAIL:]
    if record.get("test_exit_code") in (126, 127):
        name = _missing({}, tested)
        return Reason("condition", "the condition could not run", name and f"{name} was not found")
    asked = _asked_the_network(record)
    if asked:
        return Reason("network", "needs the network", asked)
    return Reason("condition", "condition not met", _quote(_last_line(tested)))


def _missing(record: Mapping[str, Any], output: str) -> str:
    """The program that *output* says was not found, and where the sandbox has it; empty if none."""
    found = missing_programs(output)
    if not found:
        return ""
    name, places = found[0], record.get("missing") or {}
    if name not in places:
        return _quote(name)
    return f"{_quote(name)}, which the sandbox " + (
        f"has as {_quote(places[name])}" if places[name] else "lacks"
    )


def _asked_the_network(record: Mapping[str, Any]) -> str:
    """How the command tried to reach the network, as the sandbox saw it; empty if it did not."""
    seen = (record.get("effects") or {}).get("network") or {}
    if seen.get("lookups"):
        return "it looked up a name"
    return "it tried to connect" if seen.get("unreachable") else ""


def _command(record: Mapping[str, Any]) -> bool:
    return record.get("generated_command") is not None


def _last_line(output: str) -> str:
    return output.rstrip().rpartition("\n")[2]


def _quote(text: str) -> str:
    # text that a progress bar has overwritten is not quoted
    line = " ".join(text.strip().rpartition("\r")[2].split())
    line = _METER.sub("", _WHERE.sub("", line))
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
