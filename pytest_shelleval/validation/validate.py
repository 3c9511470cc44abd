"""Validates datasets: tries every row in sandboxes, several at a time, round after round."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from pytest_shelleval.core.execution import ExecutionPolicy, SandboxSource
from pytest_shelleval.core.tasks import RowFault, Steps, Task
from pytest_shelleval.report.words import count
from pytest_shelleval.validation.findings import Finding, Report
from pytest_shelleval.validation.judging import judge
from pytest_shelleval.validation.probes import Prober
from pytest_shelleval.validation.rows import GOLD_RUNS, RowCheck
from pytest_shelleval.validation.work_queue import WorkQueue

Round = Callable[[RowCheck], None]
Progress = Callable[[int, int, int], None]
"""Called after each piece of work: pieces done, pieces in all, faulty rows so far."""

_NAMED = 5
_ROUNDS = 1 + GOLD_RUNS  # the first gold run, the probes, the further gold runs
_END_SECONDS = 2.0


class Validation:
    """A validation: call :meth:`run`, then :meth:`report`, even if it was interrupted.

    *source* provides sandboxes to *jobs* threads. *steps*: how rows without a column ``steps`` are
    run; ``auto`` is ``separate``, unless gold commands show that the dataset was written for
    ``shared``. *faults* are the rows that could not be read.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        source: SandboxSource,
        policy: ExecutionPolicy,
        *,
        steps: Literal["auto", "separate", "shared"] = "auto",
        jobs: int = 2,
        faults: Sequence[RowFault] = (),
        datasets: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> None:
        self._auto = steps == "auto"
        self._steps: Steps = "shared" if steps == "shared" else "separate"
        self._rows = [RowCheck(task, self._steps) for task in tasks]
        self._faults = faults
        self._datasets = datasets
        self._source = source
        self._prober = Prober(source, policy)
        self._jobs = max(1, jobs)
        self._progress = progress or (lambda done, total, faulty: None)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._done = 0
        self._faulty: set[int] = set()
        self._notes: list[str] = []
        self._started = time.monotonic()
        self._complete = False

    def run(self) -> None:
        """Try all rows.

        Raises SandboxUnavailable if no sandbox can be created. On KeyboardInterrupt it starts
        nothing more; what still runs ends with its sandbox, when *source* is closed.
        """

        def first_gold(row: RowCheck) -> None:
            row.first_gold(self._prober, self._steps)

        def probe(row: RowCheck) -> None:
            row.probe(self._prober)

        def repeat(row: RowCheck) -> None:
            row.repeat(self._prober, self._stop)

        rest = [probe] + [repeat] * (GOLD_RUNS - 1)
        try:
            if self._auto:
                self._work(self._rows, [first_gold])
                self._find_steps()
                self._work(self._rows, rest)
            else:
                self._work(self._rows, [first_gold, *rest])
            self._complete = True
        finally:
            self._stop.set()

    def report(self) -> Report:
        """What was found so far."""
        finished = [row for row in self._rows if row.rounds == _ROUNDS]
        findings = [
            Finding("row", "fault", fault.where, fault.own_id, fault.what) for fault in self._faults
        ]
        for row in list(self._rows):
            if row.runs:
                findings += judge(row)
        findings += _repeats([row.task for row in self._rows])
        unjudged = {each.where for each in findings if each.severity == "remark"}
        faulty = {each.where for each in findings if each.severity == "fault"}
        judged = [row.task.source for row in finished if row.task.source not in unjudged]
        return Report(
            datasets=self._datasets,
            findings=findings,
            rows=len(self._rows) + len({fault.where for fault in self._faults}),
            judged=len(judged),
            sound=sum(where not in faulty for where in judged),
            without_gold=sum(row.task.gold_command is None for row in self._rows),
            steps=self._steps,
            notes=self._notes,
            complete=self._complete,
            sandbox=getattr(self._source, "info", {}),
            sandboxes_used=sum(row.sandboxes for row in self._rows),
            seconds=time.monotonic() - self._started,
        )

    # -- steps ------------------------------------------------------------------------------------

    def _find_steps(self) -> None:
        """Choose the steps with which more gold commands pass, if some pass with one of them only."""
        free = [row for row in self._rows if row.task.steps is None and row.gold]
        only_shared = [row for row in free if row.passes_with_other_steps]
        if not only_shared:
            return
        self._change_steps(free, "shared")
        only_separate = [row for row in free if row.passes_with_other_steps]
        if len(only_separate) > len(only_shared):
            self._change_steps(free, "separate")
            return
        self._steps = "shared"
        for row in self._rows:
            row.use_steps("shared")
        self._notes.append(
            f"the gold commands of {_named(only_shared)} pass with steps shared only: the rows were "
            "validated so, and a run needs --shelleval-steps=shared"
        )

    def _change_steps(self, rows: Sequence[RowCheck], steps: Steps) -> None:
        self._work(rows, [lambda row: row.first_gold(self._prober, steps)], counted=False)

    # -- threads ----------------------------------------------------------------------------------

    def _work(
        self, rows: Sequence[RowCheck], rounds: Sequence[Round], *, counted: bool = True
    ) -> None:
        """Run *rounds* for all *rows*, in several threads.

        All rows finish a round before any begins the next, except slow ones, which lag behind.
        """
        pieces = WorkQueue(rows, len(rounds), self._stop)

        def take() -> None:
            while (piece := pieces.next()) is not None:
                row, number = piece
                try:
                    rounds[number](row)
                    if counted:
                        self._count(row)
                    pieces.done(row, number)
                except BaseException as error:
                    pieces.fail(error)

        # daemon threads: an interrupted validation does not wait for hanging ones
        threads = [threading.Thread(target=take, daemon=True) for _ in range(self._jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop.set()
            end = time.monotonic() + _END_SECONDS
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
            raise
        if pieces.error is not None:
            raise pieces.error

    def _count(self, row: RowCheck) -> None:
        faults = judge(row)
        with self._lock:
            self._done += 1
            row.rounds += 1
            if any(each.severity == "fault" for each in faults):
                self._faulty.add(id(row))
            else:
                self._faulty.discard(id(row))
            self._progress(
                self._done, len(self._rows) * _ROUNDS, len(self._faulty) + len(self._faults)
            )


def _repeats(tasks: Sequence[Task]) -> Iterator[Finding]:
    """Rows whose task, setup and condition are equal, apart from white space."""
    groups: dict[tuple[str, ...], list[Task]] = {}
    for task in tasks:
        texts = (task.task, *task.setup_commands, task.success_condition)
        groups.setdefault(tuple(" ".join(text.split()) for text in texts), []).append(task)
    for group in groups.values():
        for task in group if len(group) > 1 else ():
            others = ", ".join(other.source for other in group if other is not task)
            yield Finding("repeats", "warning", task.source, task.task_id, f"like {others}")


def _named(rows: Sequence[RowCheck]) -> str:
    if len(rows) > _NAMED:
        return count(len(rows), "row")
    return ", ".join(row.task.task_id for row in rows)
