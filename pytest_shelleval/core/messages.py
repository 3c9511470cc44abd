"""What shells and programs print when they do not find a program."""

from __future__ import annotations

import re

_TAIL = 8_000  # characters: only the end of an output is searched, where the fatal message is

_NOT_FOUND = re.compile(
    r"^(?:.*?: )?(?:line \d+: )?(?P<name>[^\s:]+): (?:command )?not found$|"
    r"^(?:/usr/bin/)?env: [‘'\"]?(?P<env>[^\s:’'\"]+)[’'\"]?: No such file or directory$|"
    r"^(?:exec|xargs|nohup|timeout|sudo|find): (?:failed to run command )?"
    r"[‘'\"]?(?P<run>[^\s:’'\"/]+)[’'\"]?: (?:No such file or directory|command not found)$",
    re.MULTILINE,
)


def missing_programs(*outputs: str | None) -> list[str]:
    """The programs that messages in *outputs* say were not found, each once, in order."""
    found = (match for output in outputs for match in _NOT_FOUND.finditer((output or "")[-_TAIL:]))
    return list(dict.fromkeys(name for match in found for name in match.groups() if name))
