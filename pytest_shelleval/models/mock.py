"""The mock: keyword rules in place of a model. No network, no key, the same answer every time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from shlex import quote

from pytest_shelleval.models.base import Reply, Request

_QUOTED = re.compile(r"\"([^\"]+)\"|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
_FILE = re.compile(r"(?<![\w*/.~-])(~?/?(?:[\w.-]+/)*[\w-]*\.?[\w.-]*\w/?)(?!\w)")
_GLOB = re.compile(r"(?<![^\s(])([\w/.-]*\*[\w.*-]*)")
_EXTENSION = re.compile(r"(?<!\S)(\.[A-Za-z0-9]+)\b")
_NAMED = re.compile(r"\b(?:named|called)\s+(\S+?)[.,;:]?(?=\s|$)", re.IGNORECASE)
_CONTENT = re.compile(
    r"\b(?:contents?|containing|contains|saying|says|text)\b(?!\s+of\b)(?:\s+is\b)?:?\s+"
    r"(?:\"([^\"]*)\"|'([^']*)'|`([^`]*)`|(.+?)\.?$)",
    re.IGNORECASE,
)
_IN = re.compile(
    r"\b(?:in|inside|under|into|within|from|of)\s+(?:the\s+)?(\S*[/\w])", re.IGNORECASE
)
_IN_WORD = re.compile(r"\b(?:in|inside|under)\s+(?:the\s+)?(\w+)(?:\s+(?:directory|folder))?\.?$")
_INTO = re.compile(
    r",?\s+and\s+(?:write|save|put|store)\s+(?:it|them|(?:the|their|its)\s+\w+)\s+(?:in)?to\s+"
    r"(?:the\s+file\s+)?(\S*\w)\.?$",
    re.IGNORECASE,
)
_MODE = re.compile(r"\b([0-7]{3,4})\b")
_COUNT = re.compile(r"\b(\d+)\b")


class MockModel:
    """Knows a handful of verbs: create, list, copy, move, delete, find, search, permissions, count,
    print. Takes names and quoted text out of the sentence where they plainly stand there, and says
    ``echo 'Task completed'`` to everything else: simple tasks pass, and not all of them.
    """

    name = "mock"
    free = True

    async def generate(self, request: Request) -> Reply:
        """The command for the task's sentence, in JSON as a model would wrap it."""
        command = write_command(request.task.task)
        return Reply(text=json.dumps({"command": command}), finish_reason="stop")


@dataclass(slots=True)
class _Sentence:
    """A task's sentence, taken apart."""

    text: str
    lower: str = ""
    names: list[str] = field(default_factory=list)
    """Files and directories: tokens with a dot or slash, and what is ``named`` or ``called``."""
    quoted: list[str] = field(default_factory=list)
    globs: list[str] = field(default_factory=list)
    content: str | None = None

    def __post_init__(self) -> None:
        self.lower = self.text.lower()
        content = _CONTENT.search(self.text)
        if content is not None:
            self.content = next(group for group in content.groups() if group is not None)
        for each in _QUOTED.finditer(self.text):
            self.quoted.append(next(group for group in each.groups() if group))
        self.globs = _GLOB.findall(self.text)
        if not self.globs:
            self.globs = [f"*{suffix}" for suffix in _EXTENSION.findall(self.text)]
        found = [(m.start(1), m[1].strip("\"'`")) for m in _NAMED.finditer(self.text)]
        taken = content.span() if content is not None and content[4] is not None else (0, 0)
        for match in _FILE.finditer(self.text):
            name = match[1]
            if ("." in name.strip(".") or "/" in name) and not taken[0] < match.start() < taken[1]:
                found.append((match.start(1), name))
        self.names = list(dict.fromkeys(name for _, name in sorted(found) if name))

    def has(self, *words: str) -> bool:
        return any(re.search(rf"\b{word}\b", self.lower) for word in words)

    def place(self, default: str = ".") -> str:
        """The directory that the sentence speaks of."""
        for match in _IN.finditer(self.text):
            if "/" in match[1] or match[1] in self.names:
                return match[1].strip("\"'`")
        word = _IN_WORD.search(self.text)
        return (
            word[1] if word and word[1] not in ("current", "directory", "folder", "it") else default
        )

    def new_name(self) -> str:
        """The first name, in the directory that the sentence speaks of."""
        name, place = self.names[0], self.place("")
        if "/" in name or "/" not in place or place in (name, "."):
            return quote(name)
        return quote(f"{place.rstrip('/')}/{name}")


def write_command(sentence: str) -> str:
    """The mock's command for a task's *sentence*."""
    sentence = " ".join(sentence.split())
    into = _INTO.search(sentence)
    taken_apart = _Sentence(sentence[: into.start()] if into else sentence)
    for applies, write in _RULES:
        if applies(taken_apart):
            command = write(taken_apart)
            if command is not None:
                return f"{command} > {quote(into[1])}" if into else command
    return "echo 'Task completed'"


def _create_directory(s: _Sentence) -> str | None:
    if not s.names:
        after = re.search(r"\b(?:directory|folder)\s+([\w./-]*\w)", s.text, re.IGNORECASE)
        return f"mkdir -p {quote(after[1])}" if after else None
    return f"mkdir -p {s.new_name()}"


def _create_file(s: _Sentence) -> str | None:
    if not s.names or s.has("link", "archive"):
        return None
    name = s.new_name()
    content = s.content or next((text for text in s.quoted if text not in s.names), None)
    if content is None or s.has("empty"):
        return f"touch {name}"
    return f"echo {quote(content)} {'>>' if s.has('append') else '>'} {name}"


def _two_names(command: str) -> Callable[[_Sentence], str | None]:
    def write(s: _Sentence) -> str | None:
        names = [*s.globs, *(n for n in s.names if n not in s.globs)] if s.globs else s.names
        if len(names) < 2:
            to = re.search(
                r"\b(?:to|into|as)\s+(?:the\s+)?(?:\w+\s+)??([\w./-]*\w)$", s.text.rstrip(".")
            )
            names = [*names, to[1]] if names and to else names
        if len(names) < 2:
            return None
        source = names[0] if "*" in names[0] else quote(names[0])
        return f"{command} {source} {quote(names[1])}"

    return write


def _delete(s: _Sentence) -> str | None:
    if s.globs:
        return f"find {quote(s.place())} -name {quote(s.globs[0])} -type f -delete"
    return f"rm -rf {' '.join(map(quote, s.names))}" if s.names else None


def _find(s: _Sentence) -> str | None:
    pattern = s.globs[0] if s.globs else next(iter(s.names), None)
    if s.has("director(?:y|ies)", "folders?") and pattern is None:
        return f"find {quote(s.place())} -type d"
    return f"find {quote(s.place())}" + (f" -name {quote(pattern)}" if pattern else " -type f")


def _search(s: _Sentence) -> str | None:
    word = next((text for text in s.quoted if text not in s.names), None)
    if word is None:
        said = re.search(
            r"\b(?:for|word|containing|contain|string|pattern)\s+(?:the\s+)?(?:word\s+)?(\w+)",
            s.text,
        )
        word = said[1] if said else None
    if word is None:
        return None
    if s.names:
        return f"grep {quote(word)} {quote(s.names[0])}"
    return f"grep -r {quote(word)} {quote(s.place())}"


def _permissions(s: _Sentence) -> str | None:
    if not s.names:
        return None
    mode = _MODE.search(s.text)
    if mode is not None:
        wanted = mode[1]
    elif s.has("executable"):
        wanted = "+x"
    elif s.has("only the owner", "private"):
        wanted = "600"
    elif s.has("read-only", "read only"):
        wanted = "444"
    else:
        return None
    return f"chmod {wanted} {quote(s.names[0])}"


def _count_lines(s: _Sentence) -> str | None:
    if not s.names:
        return f"ls {quote(s.place())} | wc -l" if s.has("files") else None
    flag = "-w" if s.has("words") else "-l"
    count = f"wc {flag} < {quote(s.names[0])}"
    return f"{count} > {quote(s.names[1])}" if len(s.names) > 1 else count


def _list(s: _Sentence) -> str | None:
    flags = " -la" if s.has("hidden", "all", "details?") else ""
    place = s.place("")
    return f"ls{flags}" + (f" {quote(place)}" if place else "")


def _print(s: _Sentence) -> str | None:
    lines = _COUNT.search(s.text)
    if s.names and lines is not None and s.has("first", "last"):
        return f"{'head' if s.has('first') else 'tail'} -n {lines[1]} {quote(s.names[0])}"
    if s.has("working directory", "current directory"):
        return "pwd"
    if s.names:
        return f"cat {quote(s.names[0])}"
    text = next(iter(s.quoted), s.content)
    return f"echo {quote(text)}" if text else None


def _verb(*words: str) -> Callable[[_Sentence], bool]:
    return lambda s: s.has(*words)


def _makes(*nouns: str) -> Callable[[_Sentence], bool]:
    return lambda s: s.has(
        rf"(?:create|make|write|add|append|save|put|generate)\b.*\b(?:{'|'.join(nouns)})"
    )


_RULES: list[tuple[Callable[[_Sentence], bool], Callable[[_Sentence], str | None]]] = [
    (_verb("permissions?", "chmod", "executable"), _permissions),
    (_verb("count", "number of", "how many"), _count_lines),
    (_verb("copy", "duplicate"), _two_names("cp -r")),
    (_verb("move", "rename"), _two_names("mv")),
    (_verb("delete", "remove"), _delete),
    (_makes("director(?:y|ies)", "folders?"), _create_directory),
    (_makes("files?", "content", "text", "line", r"\w+\.\w+"), _create_file),
    (_verb("create", "touch"), _create_file),
    (_verb("search", "grep", "lines? (?:that )?contain(?:s|ing)?"), _search),
    (_verb("find", "locate"), _find),
    (_verb("list"), _list),
    (_verb("print", "show", "display", "output", "echo"), _print),
]
