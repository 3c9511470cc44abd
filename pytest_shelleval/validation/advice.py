"""Warnings for a row, from its text and from what happened in sandboxes besides verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_shelleval.core.messages import missing_programs
from pytest_shelleval.validation import reading
from pytest_shelleval.validation.findings import Finding
from pytest_shelleval.validation.rows import RowCheck
from pytest_shelleval.validation.wording import NAMED, paths_in, reason_in, some

_OF_PROCESSES = re.compile(
    r"\b(?:kill|killall|pkill|pgrep|ps|pidof|top|jobs|wait|fuser|lsof|ss|netstat|process\w*|"
    r"daemon|server|background|running|port)\b|/proc\b|\$!|localhost|127\.0\.0\.1",
    re.IGNORECASE,
)
_SHELL_SAYS = re.compile(r": command not found$|\bsh: (?:line )?\d+: \S+: not found$")

Advice = Iterator[tuple[str, str]]
"""Kind and detail of each warning."""


def advise(row: RowCheck, faults: Sequence[Finding]) -> Iterator[Finding]:
    """The warnings for *row*, except those that its *faults* already cover."""
    task = row.task
    for source in (_setup, _programs, _network, _paths, _words, _hollow):
        for kind, detail in source(row, faults):
            yield Finding(kind, "warning", task.source, task.task_id, detail)


def _setup(row: RowCheck, faults: Sequence[Finding]) -> Advice:
    looked, count = row.seen.setup, len(row.task.setup_commands)
    for number, item in enumerate(row.task.setup_commands, 1):
        if not item.strip():
            yield "setup-item-empty", f"setup command {number} of {count}"
    if looked is None or row.setup_failures:
        return
    failed = [f"{n} ({code})" for n, code in looked.codes.items() if code and n < count]
    if failed:
        said = reason_in(looked.output, 1).detail
        text = f"of {count} commands these fail (exit code): {', '.join(failed[:NAMED])}"
        yield "setup-part-fails", f"{text}: {said}" if said else text
    if looked.left_running:
        rest = f"{row.task.task}\n{row.task.gold_command}\n{row.task.success_condition}"
        names = sorted({name for name in looked.left_running if name not in rest})
        if names and not _OF_PROCESSES.search(rest):
            yield "leaves-process", ", ".join(names)


def _programs(row: RowCheck, faults: Sequence[Finding]) -> Advice:
    """Missing programs, if nothing failed because of them."""
    first = next(iter(row.gold or row.runs.get("nothing", ())), None)
    if faults or first is None:
        return
    # without a gold command, the missing program may be what the task asks for
    told = "" if row.gold else row.task.task + " ".join(row.task.setup_commands)
    for name, output in (("setup", first.setup_output), ("condition", first.test_output)):
        # programs other than shells say "not found" too, about other things
        said = "\n".join(line for line in (output or "").splitlines() if _SHELL_SAYS.search(line))
        missing = [p for p in missing_programs(said) if "/" not in p and p not in told]
        if missing:
            yield "missing-program", f"{some(missing)}, in the {name}"
            return


def _network(row: RowCheck, faults: Sequence[Finding]) -> Advice:
    if any("needs the network" in each.detail for each in faults):
        return
    for name, text in reading.texts_of(row.task):
        call = reading.network_call(text)
        if call:
            yield "network", f"in the {name}: `{call}`"
            return
    if row.seen.setup is not None and row.seen.setup.network:
        yield "network", "the setup tried to reach beyond the sandbox"
    elif any(_traffic(each.effects) for each in row.gold):
        yield "network", "the gold command tried to reach beyond the sandbox"


def _paths(row: RowCheck, faults: Sequence[Finding]) -> Advice:
    there = row.seen.paths
    absent = [] if there is None else [path for path in row.absent_paths if path not in there]
    if not row.gold:  # the path may be what the task asks for
        absent = [path for path in absent if path not in row.task.task]
    if absent:
        yield "host-path", f"nothing in the row creates {some(absent)}"
    elif row.installed_paths:
        yield "host-path", f"{some(row.installed_paths)} differs from machine to machine"


def _words(row: RowCheck, faults: Sequence[Finding]) -> Advice:
    for name, text in reading.texts_of(row.task):
        if reading.uses_sudo(text):
            yield "sudo", f"in the {name}"
            break
    asks = reading.clock_call(row.task.success_condition)
    if asks:
        yield "clock", f"`{asks}`"


def _hollow(row: RowCheck, faults: Sequence[Finding]) -> Advice:
    hollow = row.runs.get("hollow", ())
    if hollow and all(each.test_passed for each in hollow) and not faults:
        yield "hollow", f"empty {some(sorted(paths_in(row.gold[0].effects, 'created')))}"


def _traffic(effects: Mapping[str, Any] | None) -> bool:
    return any(((effects or {}).get("network") or {}).values())
