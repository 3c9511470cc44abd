"""The canary: a known-good script, run when a command ended as it would in a broken sandbox.

If the canary fails, the sandbox is broken, by itself or by the command. To tell which, the task is
retried in a fresh sandbox, with the canary run before the command too.
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

# Checks what a step needs: bash, a file written here and in /tmp and read back, a program. A missing
# directory or program is no fault: someone removed it on purpose, infrastructure loses no single
# files. Starts as few processes as possible, and none at the process limit, where bash would retry
# for 15 s.
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
    """What the canary found."""

    fault: str = ""
    """What does not work in the sandbox, in a few words; empty if all works."""
    programs: dict[str, str | None] = field(default_factory=dict)
    """Where a fresh shell finds the requested programs; None: nowhere."""


def suspicious(done: ExecResult) -> bool:
    """Whether a fault of the sandbox could be the cause of the outcome *done*.

    That is: killed, timed out, no exit code, or one that means that something could not be started
    (125 to 127); but not if an exceeded limit explains it.
    """
    if done.limit is not None:
        return False
    code = done.exit_code
    return done.timed_out or code is None or 125 <= code <= 127 or code > 128


def examine(sandbox: Sandbox, programs: Iterable[str] = ()) -> Health:
    """Run the canary in a fresh shell of *sandbox*, and locate *programs* (the first three).

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
    """Decides, during one attempt in one sandbox, whether the sandbox or the command is to blame.

    The first attempt runs the canary only after an outcome that a fault of the sandbox could have
    caused, and is given up if the canary fails. Later attempts run it at every step: if it fails
    after the command and passed right before it, the command is to blame. If the sandbox itself
    reports that the command damaged the system's files, the first attempt is proof enough.
    """

    def __init__(self, result: Result, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.close = result.attempt > 1
        """Whether the canary runs at every step."""
        self._result = result
        self._sound = False

    def begin(self) -> None:
        """Call with a fresh sandbox. Raises SandboxError when it is broken already."""
        if self.close:
            fault = examine(self.sandbox).fault
            if fault:
                raise SandboxError(f"a known-good command failed in a fresh sandbox: {fault}")

    def set_up(self) -> None:
        """Call after the setup. If the setup breaks what the canary needs, the canary proves nothing."""
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
        """Call after the verdict, with the outcome of command and condition.

        Raises SandboxError when the sandbox is broken and may have been so before the command.
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
    """Whether the sandbox saw the command delete, change or replace files of the system."""
    if effects is None:
        return False
    paths = [*replaced, *effects["removed"]]
    paths += [each["path"] for name in ("changed", "deleted") for each in effects[name]]
    system = ("/bin", "/lib", "/sbin", "/usr", "/etc/ld.so")
    return any(path.startswith(system) and not path.startswith("/usr/local/") for path in paths)
