"""What can be wrong with a row, how bad that is, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["fault", "warning", "remark"]
"""A *fault*: results for this row mean nothing. A *warning*: they may depend on where and when it is
run, or reward too little. A *remark*: it could not be judged, for a reason that is not the row's."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that can be wrong."""

    title: str
    mend: str


KINDS: Mapping[str, Kind] = {
    "row": Kind(
        "the row can't be read",
        "give every row a task and a success_condition, and an id of its own",
    ),
    "syntax": Kind("bash can't parse it", "try it with: bash -n"),
    "setup-fails": Kind(
        "the setup fails",
        "run it by hand in an empty directory; every task that has it is an error",
    ),
    "passes-undone": Kind(
        "the condition passes when nothing is done",
        "test for what the command has to bring about, so that it fails before",
    ),
    "passes-after-exit": Kind(
        "the condition passes after `exit 0`",
        "test for what the command has to bring about, not for how the shell ended",
    ),
    "passes-after-deletion": Kind(
        "the condition passes after everything in the start directory is deleted",
        "test also that what has to stay is still there: [ -e FILE ] && ...",
    ),
    "gold-fails": Kind(
        "the gold command does not pass",
        "mend gold_command or success_condition until they agree",
    ),
    "flaky": Kind(
        "the verdict changes from run to run",
        "remove what varies: chance, the clock, races with background processes",
    ),
    "condition-hangs": Kind(
        "the condition does not end by itself", "put a limit on what it waits for: timeout 5 ..."
    ),
    "other-steps": Kind(
        "the gold command passes with other steps only",
        "run with --shelleval-steps=shared (here: --steps), or give rows a column steps",
    ),
    "missing-program": Kind(
        "it runs a program that the sandbox lacks",
        "do without it, or name a root file system or an image that has it",
    ),
    "setup-part-fails": Kind(
        "a part of the setup fails, and the rest goes on",
        "mend it, or end it in `|| true` if that is meant",
    ),
    "setup-item-empty": Kind("an item of the setup is empty", "take it out"),
    "leaves-process": Kind(
        "the setup leaves a process running that nothing else in the row speaks of",
        "end it or wait for it: what it still does races with the command",
    ),
    "network": Kind(
        "it uses the network, which sandboxes do not have",
        "put what it fetches into the setup, or into a root file system or an image",
    ),
    "sudo": Kind("it calls sudo", "leave it out: commands are root, and few sandboxes have sudo"),
    "host-path": Kind(
        "it depends on files of one machine",
        "make them in the setup, under the start directory or /tmp",
    ),
    "clock": Kind(
        "the condition asks what time it is",
        "compare with fixed times: touch -d, date -d; or allow for midnight",
    ),
    "hollow": Kind(
        "the condition passes when the gold command's files are there, but empty",
        "test what is in them",
    ),
    "repeats": Kind(
        "it says the same as another row", "take one of them out: it would count twice"
    ),
    "ids": Kind(
        "not judged: it needs users or owners of files, and these sandboxes have one id only",
        "install uidmap (newuidmap and a line in /etc/subuid), or run as root; see shelleval doctor",
    ),
    "sandbox": Kind(
        "not judged: the sandbox failed, again and again",
        "see shelleval doctor; give sandboxes more room, or run fewer at a time",
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
    """None where the row has none that can be read."""
    detail: str
    """What was seen, one line, without the title."""

    def to_json(self) -> dict[str, Any]:
        """Everything about it, as a JSON object."""
        kind = KINDS[self.kind]
        return {
            "source": self.where,
            "task_id": self.task_id,
            "kind": self.kind,
            "severity": self.severity,
            "what": kind.title,
            "detail": self.detail,
            "mend": kind.mend,
        }


@dataclass(slots=True)
class Report:
    """What a validation found."""

    datasets: Sequence[str]
    findings: Sequence[Finding]
    rows: int
    """All rows, those that can't be read included."""
    judged: int
    """Rows that were tried to the end."""
    sound: int
    """Of these, those without a fault."""
    without_gold: int
    """Rows without a gold command: nothing shows that they can be passed."""
    steps: str
    """``separate`` or ``shared``: how rows without a column ``steps`` were run."""
    notes: Sequence[str] = ()
    """What is to be said of the dataset as a whole, a sentence each."""
    complete: bool = True
    """False when the validation was interrupted."""
    sandbox: Mapping[str, Any] = field(default_factory=dict)
    sandboxes_used: int = 0
    seconds: float = 0.0

    def rows_with(self, severity: Severity) -> list[str]:
        """The places of the rows that have a finding of this severity, in their order."""
        found = (each.where for each in self.findings if each.severity == severity)
        return list(dict.fromkeys(found))

    @property
    def faulty(self) -> list[str]:
        """The places of faulty rows."""
        return self.rows_with("fault")

    def exit_status(self, *, strict: bool = False) -> int:
        """1: a row is faulty, or with *strict* warned of; 3: not all rows were judged; 0: sound."""
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
