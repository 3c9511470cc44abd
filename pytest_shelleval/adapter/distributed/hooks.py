"""What the controller does where pytest-xdist distributes the items, on this machine and on others."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_shelleval.adapter.distributed.lost import Lost
from pytest_shelleval.adapter.distributed.provision import Provision
from pytest_shelleval.adapter.distributed.specs import (
    is_near,
    machine_of,
    parsed,
    prepare_for_cut,
    tolerant,
    watched,
)
from pytest_shelleval.adapter.run import send_run
from pytest_shelleval.core.errors import SandboxUnavailable
from pytest_shelleval.report.words import inert

if TYPE_CHECKING:
    from execnet import Gateway, XSpec
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

    from pytest_shelleval.adapter.controller import Controller

_log = logging.getLogger(__name__)
_RERUN, _DONE = "rerun", "done"
_MOST_STILLBORN = 2


class XdistHooks:
    """A pytest plugin, registered in the controller where pytest-xdist is there."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._provision = Provision(controller)
        self._lost = Lost()
        self._inferred = False
        self._placed: Counter[str] = Counter()
        self._places: dict[str, XSpec] = {}
        self._living: set[str] = set()
        self._reported: dict[str, str] = {}
        self._collected: set[str] = set()
        self._stillborn: Counter[str] = Counter()

    # -- start ------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> Generator[None, object, object]:
        """See to the command line before workers start, and say it clearly where one can't."""
        option = session.config.option
        if option.dist == "no" or not option.tx:
            return (yield)
        try:
            self._placed = Counter(map(machine_of, parsed(option.tx)))
        except (AttributeError, ValueError) as error:
            raise pytest.UsageError(f"--tx: {error}") from error
        if set(self._placed) == {""} and not option.px:
            return (yield)
        _check_words(session.config)
        option.tx = list(map(watched, option.tx))
        option.px = list(map(watched, option.px))
        self._placed = Counter(map(machine_of, parsed(option.tx)))
        from execnet import HostNotFound, RemoteError

        try:
            return (yield)
        except (HostNotFound, RemoteError, OSError, EOFError) as error:
            specs = parsed(option.tx)
            machine = machine_of(specs[min(len(self._places), len(specs) - 1)])
            reason = str(error).strip().rpartition("\n")[2]
            raise pytest.UsageError(
                f"no worker can be started at {machine or 'this machine'} ({type(error).__name__}: "
                f"{reason}); see that it answers, and that python= names an interpreter with "
                "pytest-shelleval there"
            ) from error

    def pytest_xdist_newgateway(self, gateway: Gateway) -> None:
        """Watch over a connection."""
        prepare_for_cut(gateway)

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Tell a worker what has been settled."""
        spec = node.gateway.spec
        if is_near(spec):
            send_run(self._controller.run, node.workerinput, max(1, self._placed[""]))
        else:
            node.sendcommand = tolerant(node.sendcommand)
            self._provision.equip(node, self._placed)
        self._places[node.gateway.id] = copy.copy(spec)  # pytest-xdist changes it
        self._living.add(node.gateway.id)

    def pytest_xdist_node_collection_finished(
        self, node: WorkerController, ids: Sequence[str]
    ) -> None:
        """Phase 1 as soon as the first worker knows what is selected; tests wait for it."""
        self._collected.add(node.gateway.id)
        if not self._inferred:
            self._inferred = True
            self._controller.infer(ids)

    # -- lost workers -----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what each worker told last."""
        node = getattr(report, "node", None)
        # what fails in its setup has its result by then
        last = report.when == "call" or (report.when == "setup" and report.failed)
        if node is not None and last:
            self._reported[node.gateway.id] = report.nodeid

    def pytest_testnodedown(self, node: WorkerController, error: object) -> None:
        """Let pytest-xdist start the worker in place of a lost one where there is an answer."""
        self._living.discard(node.gateway.id)
        spec = self._places.get(node.gateway.id)
        if not error or error == "keyboard-interrupt" or spec is None:
            return
        group, machine = node.nodemanager.group, machine_of(spec)
        if not self._lost.is_gone(spec, group):
            self._count_stillborn(node.gateway.id, machine, str(error))
            return
        load = Counter(machine_of(self._places[each]) for each in self._living)
        other = self._lost.other_place(self._places.values(), load, group) or self._here()
        if other is None:
            pytest.exit(
                f"{machine} does not answer, nor does any other machine; --shelleval-resume goes on",
                returncode=1,
            )
        place = machine_of(other) or "this machine"
        self._say(f"[{node.gateway.id}] {machine} does not answer: its work goes on at {place}")
        node.gateway.spec = other

    def _count_stillborn(self, worker: str, machine: str, error: str) -> None:
        """Give up where workers end as soon as they start: pytest-xdist would replace them for ever."""
        if worker in self._collected or not machine:
            return
        self._stillborn[machine] += 1
        if self._stillborn[machine] >= _MOST_STILLBORN:
            last = error.strip().rpartition("\n")[2]
            pytest.exit(inert(f"workers can't start at {machine}: {last}"), returncode=1)

    def _here(self) -> XSpec | None:
        """This machine, if sandboxes can be had here."""
        from pytest_shelleval.sandboxes.registry import check

        try:
            if self._controller.tries_sandboxes:
                check(self._controller.run.wish)
        except SandboxUnavailable:
            return None
        return parsed(["execmodel=main_thread_only//popen"])[0]

    @pytest.hookimpl(trylast=True)
    def pytest_handlecrashitem(
        self, crashitem: str, report: pytest.TestReport, sched: Scheduling
    ) -> None:
        """Run a task whose worker was lost on another, unless its result is there already."""
        if crashitem not in self._controller.run.subjects or report.outcome != "failed":
            return  # pytest-rerunfailures has seen to it
        gateway = getattr(report, "node").gateway  # noqa: B009
        if self._reported.get(gateway.id) == crashitem:
            _mark(report, _DONE)
        elif self._lost.worth_another(crashitem, machine_of(self._places[gateway.id])):
            try:
                sched.mark_test_pending(crashitem)
            except NotImplementedError:  # --dist=loadscope runs it again without being told
                if self._controller.config.option.dist == "each":
                    return
            _mark(report, _RERUN)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, str] | None:
        """Show what became of a lost worker's task."""
        fate = getattr(report, "shelleval_lost", None)
        if fate is None:
            return None
        return ("rerun", "R", "RERUN") if fate == _RERUN else ("", "", "")

    def _say(self, line: str) -> None:
        _log.warning("%s", line)
        reporter = self._controller.config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(inert(line))


def _mark(report: pytest.TestReport, fate: str) -> None:
    setattr(report, "shelleval_lost", fate)  # noqa: B010
    setattr(report, "outcome", "rerun")  # noqa: B010 - neither passed nor failed


def _check_words(config: pytest.Config) -> None:
    """Raises UsageError for a word of the command line on which pytest-xdist would stumble.

    It takes each that is a path here for one that it has copied to the other machines.
    """
    roots = [
        Path(each).resolve() for each in (*config.option.rsyncdir, *config.getini("rsyncdirs"))
    ]
    words = config.invocation_params.args
    for number, word in enumerate(map(str, words)):
        path = Path(word.partition("::")[0])
        if not path.exists() or any(path.is_relative_to(root) for root in roots):
            continue
        flag = str(words[number - 1]) if number else ""
        mend = (
            f"write {flag}={word}"
            if flag.startswith("--") and "=" not in flag
            else ("give an absolute path, below a folder that --rsyncdir names")
        )
        raise pytest.UsageError(f"{word}: pytest-xdist can't find that on other machines; {mend}")
