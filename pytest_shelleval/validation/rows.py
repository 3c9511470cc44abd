"""Runs the probes of one row and keeps their results."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_shelleval.core.results import Result
from pytest_shelleval.core.sandbox import Sandbox
from pytest_shelleval.core.tasks import Steps, Task
from pytest_shelleval.validation import reading
from pytest_shelleval.validation.probes import (
    DELETE,
    LEAVE,
    NOTHING,
    Prober,
    Setup,
    existing,
    hollow_command,
    names_in,
    unreadable,
)

GOLD_RUNS = 3
"""Runs of the gold command, each in a round of its own; all but the first run the setup again."""
_RUNS_BY_CHANCE = 4
"""Runs in each further round if something in the row is random."""
_AGAIN = 2
"""Further runs of a probe that passed and should not, to see whether it is flaky."""
_CLOCK_SECONDS = 1.02
_LOOK_SECONDS = 20.0


@dataclass(slots=True)
class Seen:
    """What was observed in sandboxes besides verdicts."""

    unreadable: dict[str, str] = field(default_factory=dict)
    """Bash's syntax error for a text, by the text's name (``setup command 2``, ``condition``)."""
    paths: set[str] | None = None
    """Those of the row's suspicious paths that existed after setup or gold command."""
    left_by_gold: tuple[str, ...] = ()
    """Names in the start directory after the gold command, if the sandbox does not report effects."""
    setup: Setup | None = None


class RowCheck:
    """Runs the probes of one row, round after round, and keeps their results."""

    def __init__(self, task: Task, steps: Steps) -> None:
        self.task = task
        self.steps: Steps = task.steps or steps
        self.runs: dict[str, list[Result]] = {}
        """The results of each probe, by its name: gold, nothing, exit, deletion, hollow, other."""
        self.seen = Seen()
        self.rounds = 0
        """The number of rounds it has finished."""
        self.by_clock, self.by_chance = reading.may_vary(task)
        self.absent_paths, self.installed_paths = reading.host_paths(task)
        self.ready = 0.0
        """When it may run again, by ``time.monotonic``: delayed if something reads the clock."""

    # -- what is known ----------------------------------------------------------------------------

    @property
    def gold(self) -> Sequence[Result]:
        """The runs of the gold command under the row's steps."""
        return self.runs.get("gold", ())

    @property
    def all_runs(self) -> list[Result]:
        """Every run under the row's steps."""
        return [each for name, runs in self.runs.items() if name != "other" for each in runs]

    @property
    def sandboxes(self) -> int:
        """How many sandboxes it has used."""
        used = sum(each.attempt for runs in self.runs.values() for each in runs)
        return used + (self.seen.setup is not None)

    @property
    def setup_failures(self) -> list[Result]:
        """The runs whose setup failed."""
        return [each for each in self.all_runs if each.error_kind == "setup"]

    @property
    def unjudged(self) -> Result | None:
        """A run in which the sandbox failed, if there is one."""
        return next((each for each in self.all_runs if each.error_kind == "sandbox"), None)

    def is_over(self) -> bool:
        """Whether further probes would be useless, since they hang or the sandbox fails.

        A single timeout does not count: the machine may have been busy.
        """
        late = sum(each.timed_out or each.test_timed_out for each in self.all_runs)
        return late > 1 or any(
            each.error_kind == "sandbox"
            or (each.error_kind == "setup" and "took longer" in (each.error or ""))
            for each in self.all_runs
        )

    # -- rounds -----------------------------------------------------------------------------------

    def first_gold(self, prober: Prober, steps: Steps) -> None:
        """Run the gold command with *steps*, or the row's own; if it fails, with the other steps too."""
        if self.task.gold_command is None:
            return
        self.use_steps(steps)
        if not self.gold:
            self._run_gold(prober)
            if self.gold[0].timed_out or self.gold[0].test_timed_out:
                self._run_gold(prober)
        failed = all(each.status != "passed" for each in self.gold)
        if failed and "other" not in self.runs and not self.is_over():
            other: Steps = "separate" if self.steps == "shared" else "shared"
            self._run("other", prober, self.task.gold_command, steps=other)

    def use_steps(self, steps: Steps) -> None:
        """Switch the row to *steps*, unless it has a column ``steps``.

        Results with *steps* become the row's gold runs, and the previous gold runs become ``other``.
        """
        if self.task.steps is not None or steps == self.steps:
            return
        self.steps = steps
        runs = {"gold": self.runs.pop("other", []), "other": self.runs.pop("gold", [])}
        self.runs.update((name, found) for name, found in runs.items() if found)

    @property
    def passes_with_other_steps(self) -> bool:
        """Whether the gold command fails with the row's steps but passes with the other steps."""
        if any(each.status == "passed" for each in self.gold):
            return False
        return any(each.status == "passed" for each in self.runs.get("other", ()))

    def probe(self, prober: Prober) -> None:
        """Run the probes that have to fail, and inspect the setup."""
        task = self.task
        if self.is_over():
            return
        self._run("nothing", prober, NOTHING, look=True)
        if self.is_over():
            return
        failed = bool(self.setup_failures)
        if task.setup_commands and (failed or len(task.setup_commands) > 1 or self._spawns):
            self.seen.setup = prober.look_at_setup(task)
        if failed:
            return
        self._run("exit", prober, LEAVE)
        if task.setup_commands:
            self._run("deletion", prober, DELETE)
        self._probe_hollow(prober)
        for name, command in (("nothing", NOTHING), ("exit", LEAVE), ("deletion", DELETE)):
            if any(each.test_passed for each in self.runs.get(name, ())):
                self._again(name, prober, command)
                return

    def repeat(self, prober: Prober, stop: threading.Event) -> None:
        """Run the deciding probe again with a fresh setup; a second later if the clock matters."""
        asks = bool(reading.clock_call(self.task.success_condition))
        for number in range(_RUNS_BY_CHANCE if self.by_chance else 2 if asks else 1):
            if asks and number:
                stop.wait(max(0.0, self.ready - time.monotonic()))
            if self.is_over() or stop.is_set():
                return
            if self.task.gold_command is None:
                self._run("nothing", prober, NOTHING, anew=True)
            else:
                self._run_gold(prober, anew=True)

    @property
    def _spawns(self) -> bool:
        """Whether the setup may leave processes running, or use the network."""
        return any(
            "&" in text or "nohup" in text or "setsid" in text or reading.network_call(text)
            for text in self.task.setup_commands
        )

    def _run_gold(self, prober: Prober, *, anew: bool = False) -> None:
        start = ""

        def before(sandbox: Sandbox) -> None:
            nonlocal start
            start = sandbox.session_directory()

        def after(sandbox: Sandbox) -> None:
            if not hasattr(sandbox, "effects"):
                self.seen.left_by_gold = names_in(sandbox, start, _LOOK_SECONDS)
            self._see_paths(sandbox)

        assert self.task.gold_command is not None
        result = prober.run(
            self.task,
            self.task.gold_command,
            steps=self.steps,
            before=before,
            after=after,
            anew=anew,
        )
        self._keep("gold", result)

    def _run(
        self,
        name: str,
        prober: Prober,
        command: str,
        *,
        steps: Steps | None = None,
        look: bool = False,
        anew: bool = False,
    ) -> None:
        result = prober.run(
            self.task,
            command,
            steps=steps or self.steps,
            before=self._look if look else None,
            after=self._see_paths if look else None,
            anew=anew,
        )
        self._keep(name, result)

    def _keep(self, name: str, result: Result) -> None:
        self.runs.setdefault(name, []).append(result)
        self.ready = time.monotonic() + (_CLOCK_SECONDS if self.by_clock else 0.0)

    def _again(self, name: str, prober: Prober, command: str) -> None:
        for _ in range(_AGAIN):
            if not self.is_over():
                self._run(name, prober, command, anew=True)

    def _probe_hollow(self, prober: Prober) -> None:
        first = self.gold[0] if self.gold else None
        if first is not None and first.status == "passed":
            command = hollow_command(first.effects)
            if command:
                self._run("hollow", prober, command)

    def _look(self, sandbox: Sandbox) -> None:
        """Find, after the setup, the texts that bash can't parse and the paths that exist."""
        names = [f"setup command {n}" for n, _ in enumerate(self.task.setup_commands, 1)]
        texts = [*self.task.setup_commands, self.task.success_condition]
        names.append("condition")
        if self.task.gold_command is not None:
            names.append("gold command")
            texts.append(self.task.gold_command)
        found = unreadable(sandbox, texts, _LOOK_SECONDS)
        self.seen.unreadable = {names[number]: said for number, said in found.items()}
        self._see_paths(sandbox)

    def _see_paths(self, sandbox: Sandbox) -> None:
        if not self.absent_paths:
            return
        there = existing(sandbox, self.absent_paths, _LOOK_SECONDS)
        self.seen.paths = (self.seen.paths or set()) | there
