"""Whose fault was it? A known-good text, run where a command ended as a broken sandbox would end it.

Where this canary fails, the sandbox is broken: by itself, or by the command. A fresh sandbox tells
these apart, in which the canary runs before the command too.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_shelleval.core.errors import SandboxError
from pytest_shelleval.core.messages import missing_programs
from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import ExecResult, Sandbox

_SECONDS = 30.0
_MOST_PROGRAMS = 3

# What a step needs: bash, a file written here and in /tmp and read back, a program. What is not there
# someone took away on purpose: infrastructure loses no single files. As few processes as can be, and
# none where there is no room, for bash then tries again for 15 s.
_TEXT = r"""
fail() { printf '%s: %s\n' TOKEN "$*"; exit 1; }
files=()
for place in "$PWD" /tmp; do
    [[ -d $place ]] || continue
    file=$place/.shelleval-TOKEN
    { printf 'TOKEN\n' >"$file"; } 2>/dev/null || fail "nothing can be written in $place"
    read -r line <"$file" && [[ $line == TOKEN ]] || fail "what is written in $place can't be read"
    files+=("$file")
done
running=(/proc/[0-9]*)
while read -r _ name most _; do
    [[ $name != processes || $most == *[!0-9]* ]] || ((${#running[@]} + 4 <= most)) ||
        fail "no more processes can be started (${#running[@]} are running)"
done 2>/dev/null </proc/self/limits
if ((${#files[@]})) && hash rm 2>/dev/null; then
    rm -f "${files[@]}" && [[ ! -e $file ]] || fail "${BASH_CMDS[rm]} does not run"
elif hash cat 2>/dev/null; then
    [[ $(cat /dev/null && echo ran) == ran ]] || fail "${BASH_CMDS[cat]} does not run"
fi
printf '%s: sound\n' TOKEN
where() { hash -- "$1" 2>/dev/null; printf '%s- %s\n' TOKEN "${BASH_CMDS[$1]}"; }
"""


@dataclass(frozen=True, slots=True)
class Health:
    """What a canary found."""

    fault: str = ""
    """What does not work in the sandbox, in a few words; empty where all does."""
    programs: dict[str, str | None] = field(default_factory=dict)
    """Where a fresh shell finds the programs that were asked for; None: nowhere."""


def suspicious(done: ExecResult) -> bool:
    """Whether a fault of the sandbox could have ended a text as *done* says.

    Killed, timed out, without an exit code, or with one by which shells say that something could not
    be started (125 to 127); but not where a limit explains it.
    """
    if done.limit is not None:
        return False
    code = done.exit_code
    return done.timed_out or code is None or 125 <= code <= 127 or code > 128


def examine(sandbox: Sandbox, programs: Iterable[str] = ()) -> Health:
    """Run the canary as a fresh shell of *sandbox*, and look where *programs* are (the first three).

    Raises SandboxError when the sandbox does not answer at all.
    """
    token = secrets.token_hex(6)
    asked = list(programs)[:_MOST_PROGRAMS]
    text = _TEXT.replace("TOKEN", token)
    text += "".join(f"where {shlex.quote(name)}\n" for name in asked)
    done = sandbox.exec(text, timeout=_SECONDS)
    said = [line for line in done.output.splitlines() if line.startswith(token)]
    if not said or said[0] != f"{token}: sound":
        return Health(fault=_fault(done, said, token))
    places = [line[len(token) + 2 :] or None for line in said[1:]]
    return Health(programs=dict(zip(asked, places, strict=False)))


def _fault(done: ExecResult, said: list[str], token: str) -> str:
    if said:
        return said[0].removeprefix(f"{token}: ")
    if done.timed_out:
        return f"a fresh shell gave no answer in {_SECONDS:g} s"
    last = done.output.strip().rpartition("\n")[2][:200]
    return f"a fresh shell ended with exit code {done.exit_code}" + (f": {last}" if last else "")


class SandboxHealth:
    """Keeps watch over one attempt at a task in one sandbox.

    The first attempt runs the canary only after an end that a fault of the sandbox could have
    caused, and is given up where it fails. Later attempts run it at every turn: what fails after the
    command, and did not right before it, is the command's doing. Where the sandbox itself tells that
    the command took away what the system is made of, the first attempt is proof enough.
    """

    def __init__(self, result: Result, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.close = result.attempt > 1
        """Whether the canary runs at every turn."""
        self._result = result
        self._sound = False

    def begin(self) -> None:
        """The sandbox is fresh. Raises SandboxError when it is broken already."""
        if self.close:
            fault = examine(self.sandbox).fault
            if fault:
                raise SandboxError(f"a known-good command failed in a fresh sandbox: {fault}")

    def set_up(self) -> None:
        """The setup has run. A setup may break what the canary needs: then it says nothing."""
        if self.close:
            self._sound = not examine(self.sandbox).fault

    def broken_by_command(self) -> bool:
        """Whether the command, which has just ended, is known to have broken the sandbox."""
        if not self._sound:
            return False
        try:
            fault = examine(self.sandbox).fault
        except SandboxError as error:
            fault = str(error)
        if fault:
            self._note(fault)
        return bool(fault)

    def end(self, command: ExecResult, condition: ExecResult) -> None:
        """Command and condition have ended so.

        Raises SandboxError where it can't be told that the sandbox was sound until the command ran.
        """
        result = self._result
        doubtful = suspicious(command) or (command.limit is None and suspicious(condition))
        programs = missing_programs(result.command_output, result.test_output)
        if result.status != "failed" or not (doubtful or programs):
            return
        try:
            health = examine(self.sandbox, programs)
        except SandboxError:
            if doubtful:
                raise
            return
        result.missing = health.programs
        if not doubtful or (self.close and not self._sound):
            return
        self._note(health.fault)
        if health.fault and not (self._sound or _took_away(result.effects, result.tampered)):
            raise SandboxError(
                f"a known-good command failed in the sandbox after the task's: {health.fault}"
            )

    def _note(self, fault: str) -> None:
        self._result.sandbox["canary"] = f"failed: {fault}" if fault else "ok"


def _took_away(effects: Mapping[str, Any] | None, replaced: list[str]) -> bool:
    """Whether the sandbox saw the command delete, change or replace what the system is made of."""
    if effects is None:
        return False
    paths = [*replaced, *effects["removed"]]
    paths += [each["path"] for name in ("changed", "deleted") for each in effects[name]]
    system = ("/bin", "/lib", "/sbin", "/usr", "/etc/ld.so")
    return any(path.startswith(system) and not path.startswith("/usr/local/") for path in paths)
