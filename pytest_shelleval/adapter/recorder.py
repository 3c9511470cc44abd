"""The results of a run, in the controller: resumed from earlier runs, written as they come, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_shelleval.adapter.reuse import Reuse
from pytest_shelleval.adapter.run import Case, Run
from pytest_shelleval.adapter.shown import usage_error
from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import read_json_lines
from pytest_shelleval.core.ledger import EARLIER, FINISHED, Ledger
from pytest_shelleval.core.reasons import reason_of
from pytest_shelleval.core.replay import Replay
from pytest_shelleval.core.summary import Key, ResultCounts


class Recorder:
    """Writes and counts results; see :class:`~pytest_shelleval.core.ledger.Ledger`."""

    def __init__(self, run: Run, reuse: Reuse, *, failed_again: bool) -> None:
        """*failed_again*: run failed items again instead of replaying them (``--lf``)."""
        self.run = run
        self.counts = ResultCounts()
        self.selected: Sequence[str] = ()
        """Node ids of the items that this run executes or replays."""
        self.replayed: Mapping[str, Key] = {}
        """The items that it replays, by node id."""
        self.kept = 0
        """The number of earlier results that stay, of items that this run did not select."""
        self.lost = ""
        """Why results could not be written; else empty."""
        self._reuse = reuse
        self._failed_again = failed_again
        self._ledger = Ledger(run.settings.output_dir)
        self._aside = 0

    @property
    def begun(self) -> bool:
        """Whether this run has begun its results.jsonl."""
        return self._ledger.begun

    @property
    def total(self) -> int:
        """The number of results that a complete run has."""
        return len(self.selected) + self.kept

    def load(self) -> None:
        """Read the results of earlier runs. Raises UserError if they can't be read."""
        self._ledger.load()

    def begin(self, selected: Sequence[str]) -> None:
        """Begin with the items *selected*, whose commands are available.

        With ``--shelleval-resume`` earlier results are taken over now; else they are replaced when
        the first result comes. Raises UserError if files can't be written.
        """
        self.selected = selected
        if not self.run.settings.resume:
            if not selected:  # a shard without tasks ends here, with an empty results.jsonl
                self._ledger.begin()
            return
        replayed, kept = self._still_valid()
        self._ledger.begin(keep={*replayed.values(), *kept})
        self.replayed, self.kept = replayed, len(kept)
        for _, record in read_json_lines(self._ledger.results):
            self._count(record)
        if self.run.replay_file is not None:
            cases, lines = self.run.cases, self._ledger.lines
            offsets = {nodeid: lines[ident].offset for nodeid, ident in replayed.items()}
            shared = {self._reuse.shared_key(cases[nodeid]): nodeid for nodeid in replayed}
            verdicts = {key: nodeid for key, nodeid in shared.items() if key is not None}
            Replay(self._ledger.results, offsets, verdicts).save(self.run.replay_file)

    def _still_valid(self) -> tuple[dict[str, Key], set[Key]]:
        """Earlier results with the same execution key: those to replay, and those not selected."""
        selected, lines = set(self.selected), self._ledger.lines
        replayed: dict[str, Key] = {}
        kept: set[Key] = set()
        for nodeid, case in self.run.cases.items() if lines else ():
            ident = self._id_of(case)
            line = lines.get(ident)
            if line is None or line.key != self.run.command_for(case).execution_key:
                continue
            if nodeid not in selected:
                kept.add(ident)
            elif line.status == "passed" or (line.status in FINISHED and not self._failed_again):
                replayed[nodeid] = ident
        return replayed, kept

    def _id_of(self, case: Case) -> Key:
        pair = self.run.commands.pair_for(case.task, case.model, case.sample)
        task_id, model, sample = pair or (case.task.task_id, case.model, case.sample)
        return task_id, model or "", sample

    def add(self, nodeid: str, record: Mapping[str, Any]) -> None:
        """Write and count the result of an item. Raises pytest.UsageError if it can't be written.

        The recorded result of a replayed item stays, even if its worker crashed.
        """
        if nodeid in self.replayed:
            return
        try:
            if not self._ledger.begun:
                cases = self.run.cases
                selected = self.selected if self._ledger.lines else ()
                self._ledger.begin(drop={self._id_of(cases[each]) for each in selected})
            self._ledger.write(record)
        except UserError as error:
            self.lost = self.lost or str(error)
            raise usage_error(error) from error
        self._count(record)

    def _count(self, record: Mapping[str, Any]) -> None:
        reason = reason_of(record)
        self.counts.add(record, "" if reason is None else reason.text)

    def close(self) -> None:
        """Close the files; may be repeated."""
        try:
            self._aside = self._ledger.close(self.counts.outcomes)
        except UserError as error:
            self.lost = self.lost or str(error)

    def lines(self) -> Iterator[str]:
        """Lines for the terminal about earlier results that were set aside."""
        if self._aside:
            count = f"{self._aside:,} earlier result" + ("s" if self._aside > 1 else "")
            yield f"{count} of other commands: {EARLIER} (--shelleval-resume reuses what it can)"
