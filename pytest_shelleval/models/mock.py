"""The mock: a dozen phrases instead of a model. No network, no key, the same answer every time."""

from __future__ import annotations

import json
import re
from shlex import quote

from pytest_shelleval.models.base import Reply, Request

_NAME = r"(?:the )?(?:(?:file|files|directory|folder|script) )?(?P<{}>[\w./*-]*\w)"
_A, _B = _NAME.format("a"), _NAME.format("b")
_INTO = re.compile(
    rf",? and (?:write|save|put) (?:it|them|(?:the|their|its) \w+) (?:in)?to {_A}$", re.IGNORECASE
)
_PHRASES = [
    (rf"Create a file (?:named|called) {_A} with content (?P<b>.+)", "echo {b} > {a}"),
    (rf"Write the text '(?P<b>[^']*)' to {_A}", "echo {b} > {a}"),
    (rf"Create an? (?:empty )?file (?:named |called )?{_A}", "touch {a}"),
    (rf"(?:Create|Make) a (?:directory|folder) (?:named |called )?{_A}", "mkdir -p {a}"),
    (r"List all files\b.*", "ls -la"),
    (rf"Copy {_A} to {_B}", "cp -r {a} {b}"),
    (rf"(?:Move|Rename) {_A} to {_B}", "mv {a} {b}"),
    (rf"(?:Delete|Remove) {_A}", "rm -rf {a}"),
    (r"Find all files with the extension (?P<a>\.\w+)", "find . -name '*'{a}"),
    (rf"Search for '(?P<b>[^']*)' in {_A}", "grep {b} {a}"),
    (rf"Make {_A} executable", "chmod +x {a}"),
    (rf"Count the lines (?:of|in) {_A}", "wc -l < {a}"),
]
_RULES = [(re.compile(phrase, re.IGNORECASE), command) for phrase, command in _PHRASES]


class MockModel:
    """Knows the phrases above, and answers ``echo 'Task completed'`` to everything else.

    So some simple tasks pass and others fail.
    """

    name = "mock"
    free = True

    async def generate(self, request: Request) -> Reply:
        """The command for the task's sentence, in JSON as a model would wrap it."""
        command = write_command(request.task.task)
        return Reply(text=json.dumps({"command": command}), finish_reason="stop")


def write_command(sentence: str) -> str:
    """The mock's command for a task's *sentence*."""
    sentence = " ".join(sentence.split()).rstrip(".")
    into = _INTO.search(sentence)
    if into is not None:
        sentence = sentence[: into.start()]
    for phrase, command in _RULES:
        found = phrase.fullmatch(sentence)
        if found is not None:
            names = {name: quote(text) for name, text in found.groupdict().items()}
            return command.format(**names) + (f" > {quote(into['a'])}" if into else "")
    return "echo 'Task completed'"
