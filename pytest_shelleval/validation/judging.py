"""Judges a row: from the runs of its probes to its findings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_shelleval.core.reasons import reason_of, sentence_of
from pytest_shelleval.core.results import Result
from pytest_shelleval.validation import reading
from pytest_shelleval.validation.advice import advise
from pytest_shelleval.validation.findings import Finding, Severity
from pytest_shelleval.validation.probes import lacking
from pytest_shelleval.validation.rows import RowCheck
from pytest_shelleval.validation.wording import paths_in, reason_in, some

_OF_DELETION = re.compile(
    r"\b(?:delet|remov|eras|wip|purg|prun|clear|clean|empt|unlink|uninstall|mov|renam|drop)\w*",
    re.IGNORECASE,
)
_UNDONE = {
    "nothing": "passes-undone",
    "exit": "passes-after-exit",
    "deletion": "passes-after-deletion",
}


def judge(row: RowCheck) -> list[Finding]:
    """The findings for *row*, the most serious first.

    A fault that explains others hides them: if the setup fails, or a text can't be parsed, nothing
    is known about gold command and condition.
    """
    found = _Runs(row).judged()
    return found + list(advise(row, found))


class _Runs:
    """Derives findings from the runs of a row."""

    def __init__(self, row: RowCheck) -> None:
        self.row = row
        self.task = row.task
        self.found: list[Finding] = []

    def _add(self, kind: str, severity: Severity, detail: str) -> None:
        self.found.append(Finding(kind, severity, self.task.source, self.task.task_id, detail))

    def judged(self) -> list[Finding]:
        """The findings; one that stops a row hides those that only follow from it."""
        for stopped in (self._setup, self._sandbox, self._syntax, self._hangs):
            if stopped():
                return self.found
        self._undone()
        self._gold()
        return self.found

    def _setup(self) -> bool:
        row, failures = self.row, self.row.setup_failures
        if not failures:
            return False
        why = self._why_setup_fails(failures[0])
        if len(failures) < len(row.all_runs):
            self._add("flaky", "fault", f"the setup fails in {_of(failures, row.all_runs)}: {why}")
        elif lacking(failures[0]):
            self._add("ids", "remark", "in the setup")
        elif row.passes_with_other_steps:
            self._other_steps(why)
        elif "syntax error" in why:
            self._add("syntax", "fault", why)
        else:
            self._add("setup-fails", "fault", why)
        return True

    def _why_setup_fails(self, result: Result) -> str:
        said = reason_in(result.setup_output, _code_in(result.error))
        which = result.error or "it failed"
        looked = self.row.seen.setup
        count = len(self.task.setup_commands)
        if looked is not None and count > 1 and looked.codes and which.startswith("setup failed"):
            which = which.replace("setup", f"setup command {max(looked.codes)} of {count}", 1)
        if said.kind == "exit" and not said.detail:
            return which
        return f"{which}: {said.detail if said.kind == 'exit' else said.text}"

    def _sandbox(self) -> bool:
        failed = self.row.unjudged
        if failed is not None and lacking(failed):
            self._add("ids", "remark", "in command or condition")
        elif failed is not None:
            self._add("sandbox", "remark", failed.error or "")
        return failed is not None

    def _syntax(self) -> bool:
        gold = self.row.gold
        reached = not gold or any(each.status != "passed" for each in gold)
        for name, said in self.row.seen.unreadable.items():
            # no fault if the gold command passes without reaching that part
            self._add("syntax", "fault" if reached else "warning", f"{name}: {said}")
        return bool(self.row.seen.unreadable) and reached

    def _hangs(self) -> bool:
        hanging = next((each for each in self.row.all_runs if each.test_timed_out), None)
        if hanging is None:
            return False
        passes = any(each.status == "passed" for each in self.row.gold)
        when = "after the gold command" if hanging in self.row.gold else "when that is not met"
        self._add(
            "condition-hangs",
            "warning" if passes else "fault",
            f"stopped after {hanging.durations.get('test', 0):.0f} s, {when}",
        )
        return True

    def _undone(self) -> None:
        for name, kind in _UNDONE.items():
            runs = self.row.runs.get(name, [])
            passed = [each for each in runs if each.test_passed]
            if not passed:
                continue
            if len(passed) < len(runs):
                self._add("flaky", "fault", f"{_AFTER[name]} it passes in {_of(passed, runs)}")
            elif name == "deletion":
                self._deletion(passed[0])
            else:
                hint = reading.why_it_never_fails(self.task.success_condition)
                self._add(kind, "fault", hint or "exit code 0")
            return

    def _deletion(self, deletion: Result) -> None:
        """No fault if the gold command leaves the same state: then deleting is the task.

        Without a gold command that passes, the task's words decide.
        """
        gold = next((each for each in self.row.gold if each.status == "passed"), None)
        if gold is None:
            if not _OF_DELETION.search(self.task.task):
                self._add("passes-after-deletion", "warning", "exit code 0 after rm -rf ./*")
            return
        left = set(self.row.seen.left_by_gold)
        if gold.effects is not None and deletion.effects is not None:
            left = paths_in(deletion.effects, "deleted") - paths_in(gold.effects, "deleted")
            left |= paths_in(gold.effects, "created") | paths_in(gold.effects, "changed")
        if left:
            text = f"though the gold command leaves {some(sorted(left))}"
            self._add("passes-after-deletion", "fault", text)

    def _gold(self) -> None:
        gold = self.row.gold
        failed = [each for each in gold if each.status != "passed"]
        if not failed:
            return
        why = self._why_gold_fails(failed[0])
        if len(failed) < len(gold):
            passed = [each for each in gold if each.status == "passed"]
            self._add("flaky", "fault", f"the gold command passes in {_of(passed, gold)}: {why}")
        elif self.row.passes_with_other_steps:
            self._other_steps(why)
        else:
            self._add("gold-fails", "fault", why)

    def _other_steps(self, why: str) -> None:
        other = "separate" if self.row.steps == "shared" else "shared"
        self._add(
            "other-steps", "fault", f"passes with steps {other}; with {self.row.steps}: {why}"
        )

    def _why_gold_fails(self, result: Result) -> str:
        if result.tampered:
            return sentence_of(result)
        if result.test_passed and not result.command_success:
            code = result.command_exit_code
            if code is not None:
                return f"it ends with exit code {code}, though the condition is met"
        reason = reason_of(result.to_record())
        text = reason.text if reason is not None else "it fails"
        if reason is None or reason.kind != "condition" or reason.detail:
            return text
        text += f" (exit code {result.test_exit_code})"
        hint = reading.why_it_never_passes(self.task.success_condition)
        said = (result.test_output or "").strip().rpartition("\n")[2][:100]
        return text + (f": {hint or said}" if hint or said else "")


_AFTER = {
    "nothing": "when nothing is done",
    "exit": "after `exit 0`",
    "deletion": "after everything is deleted",
}


def _of(part: Sequence[Result], runs: Sequence[Result]) -> str:
    return f"{len(part)} of {len(runs)} runs"


def _code_in(error: str | None) -> int | None:
    found = re.search(r"exit code (\d+)", error or "")
    return int(found[1]) if found else None
