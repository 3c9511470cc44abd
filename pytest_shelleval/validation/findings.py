"""The kinds of findings about a row, how to fix each, and the report of a validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["fault", "warning", "remark"]
"""A *fault*: results for this row mean nothing. A *warning*: results may depend on where and when it is
run, or the condition may accept too little. A *remark*: it could not be judged, for a reason outside
the row."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can be wrong."""

    title: str
    fix: str
    """How to fix it."""


KINDS: Mapping[str, Kind] = {
    "row": Kind(
        "the row can't be read",
        "give every row a task and a success_condition, and an id of its own",
    ),
    "syntax": Kind("bash can't parse it", "try it with: bash -n"),
    "setup-fails": Kind(
        "the setup fails",
        "run it by hand in an empty directory; every task with this setup is an error",
    ),
    "passes-undone": Kind(
        "the condition passes when nothing is done",
        "test for the effect of the command, so that the condition fails before it runs",
    ),
    "passes-after-exit": Kind(
        "the condition passes after `exit 0`",
        "test for the effect of the command, not for how the shell ended",
    ),
    "passes-after-deletion": Kind(
        "the condition passes after everything in the start directory is deleted",
        "test also that files which have to stay still exist: [ -e FILE ] && ...",
    ),
    "gold-fails": Kind(
        "the gold command does not pass",
        "change gold_command or success_condition until they agree",
    ),
    "flaky": Kind(
        "the verdict changes from run to run",
        "remove what varies: chance, the clock, races with background processes",
    ),
    "condition-hangs": Kind(
        "the condition does not end by itself", "limit how long it waits: timeout 5 ..."
    ),
    "other-steps": Kind(
        "the gold command passes only with the other value of steps",
        "run with --shelleval-steps=shared (here: --steps), or add a column steps",
    ),
    "missing-program": Kind(
        "it runs a program that the sandbox lacks",
        "avoid it, or use a root file system or an image that has it",
    ),
    "setup-part-fails": Kind(
        "a part of the setup fails, and the rest goes on",
        "fix it, or append `|| true` if that is intended",
    ),
    "setup-item-empty": Kind("an item of the setup is empty", "remove it"),
    "leaves-process": Kind(
        "the setup leaves a process running that nothing else in the row mentions",
        "end it or wait for it: it races with the command",
    ),
    "network": Kind(
        "it uses the network, which sandboxes do not have",
        "put the downloaded content into the setup, or into a root file system or an image",
    ),
    "sudo": Kind(
        "it calls sudo", "leave it out: commands run as root, and few sandboxes have sudo"
    ),
    "host-path": Kind(
        "it depends on files of one machine",
        "create them in the setup, under the start directory or /tmp",
    ),
    "clock": Kind(
        "the condition reads the current time",
        "compare with fixed times: touch -d, date -d; or allow for midnight",
    ),
    "hollow": Kind(
        "the condition passes when the gold command's files exist, but are empty",
        "test what is in them",
    ),
    "repeats": Kind("it is a duplicate of another row", "remove one of them: it would count twice"),
    "ids": Kind(
        "not judged: it needs several users or file owners, and these sandboxes have one id only",
        "install uidmap (newuidmap and a line in /etc/subuid), or run as root; see shelleval doctor",
    ),
    "sandbox": Kind(
        "not judged: the sandbox failed again and again",
        "see shelleval doctor; raise the sandbox limits, or run fewer at a time",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one row."""

    kind: str
    """A key of :data:`KINDS`."""
    severity: Severity
    where: str
    """``tasks.jsonl:12``."""
    task_id: str | None
    """None if the row has no readable id."""
    detail: str
    """What was observed, one line, without the title."""

    def to_json(self) -> dict[str, Any]:
        """The finding as a JSON object."""
        kind = KINDS[self.kind]
        return {
            "source": self.where,
            "task_id": self.task_id,
            "kind": self.kind,
            "severity": self.severity,
            "what": kind.title,
            "detail": self.detail,
            "mend": kind.fix,
        }


@dataclass(slots=True)
class Report:
    """What a validation found."""

    datasets: Sequence[str]
    findings: Sequence[Finding]
    rows: int
    """All rows, including those that can't be read."""
    judged: int
    """Rows that were tried completely."""
    sound: int
    """Judged rows without a fault."""
    without_gold: int
    """Rows without a gold command: nothing shows that they can be passed."""
    steps: str
    """``separate`` or ``shared``: how rows without a column ``steps`` were run."""
    notes: Sequence[str] = ()
    """Notes about the dataset as a whole, a sentence each."""
    complete: bool = True
    """False if the validation was interrupted."""
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    sandboxes_used: int = 0
    seconds: float = 0.0

    def rows_with(self, severity: Severity) -> list[str]:
        """The places of the rows with a finding of this severity, in order."""
        found = (each.where for each in self.findings if each.severity == severity)
        return list(dict.fromkeys(found))

    @property
    def faulty(self) -> list[str]:
        """The places of faulty rows."""
        return self.rows_with("fault")

    def exit_status(self, *, strict: bool = False) -> int:
        """1: a row is faulty, or with *strict* has a warning; 3: not all rows were judged; 0: sound."""
        if self.faulty or (strict and self.rows_with("warning")):
            return 1
        return 0 if self.complete and not self.rows_with("remark") else 3

    def to_json(self) -> dict[str, Any]:
        """The whole report, as a JSON object."""
        return {
            "datasets": list(self.datasets),
            "rows": self.rows,
            "judged": self.judged,
            "sound": self.sound,
            "faulty": len(self.faulty),
            "warned": len(self.rows_with("warning")),
            "not_judged": len(self.rows_with("remark")),
            "without_gold_command": self.without_gold,
            "steps": self.steps,
            "complete": self.complete,
            "notes": list(self.notes),
            "sandbox": dict(self.sandbox),
            "sandboxes_used": self.sandboxes_used,
            "seconds": round(self.seconds, 3),
            "findings": [each.to_json() for each in self.findings],
        }
