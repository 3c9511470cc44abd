"""Hooks of the controller for pytest-xdist, whose workers are processes on this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_shelleval.adapter.run import send_run

if TYPE_CHECKING:
    from execnet import XSpec
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

    from pytest_shelleval.adapter.controller import Controller

_FATE = "shelleval_lost"
_RERUN, _DONE = "rerun", "done"
_MOST_LOST = 2
"""Workers lost by one task before the task is blamed."""
_MOST_STILLBORN = 2
"""Workers lost before they collected anything, before the run is given up."""


class XdistHooks:
    """A pytest plugin, registered in the controller if pytest-xdist is installed."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._inferred = False
        self._reported: dict[str, str] = {}
        self._collected: set[str] = set()
        self._lost: Counter[str] = Counter()
        self._stillborn = 0

    def pytest_configure_node(self, node: WorkerController) -> None:
        """Send a worker the controller's choices."""
        _refuse_other_machine(node.gateway.spec)
        send_run(self._controller.run, node.workerinput)

    def pytest_xdist_node_collection_finished(
        self, node: WorkerController, ids: Sequence[str]
    ) -> None:
        """Run phase 1 when the first worker reports the selected items; tests wait for it."""
        self._collected.add(node.gateway.id)
        if not self._inferred:
            self._inferred = True
            self._controller.infer(ids)

    # -- lost workers -----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember which item each worker reported last."""
        node = getattr(report, "node", None)
        # an item that fails in its setup has its result already
        last = report.when == "call" or (report.when == "setup" and report.failed)
        if node is not None and last:
            self._reported[node.gateway.id] = report.nodeid

    def pytest_testnodedown(self, node: WorkerController, error: object) -> None:
        """Give up if workers die as soon as they start: pytest-xdist would replace them for ever."""
        if not error or error == "keyboard-interrupt" or node.gateway.id in self._collected:
            return
        self._stillborn += 1
        if self._stillborn >= _MOST_STILLBORN:
            last = str(error).strip().rpartition("\n")[2]
            pytest.exit(f"workers of pytest-xdist can't start: {last}", returncode=1)

    @pytest.hookimpl(trylast=True)
    def pytest_handlecrashitem(
        self, crashitem: str, report: pytest.TestReport, sched: Scheduling
    ) -> None:
        """Run the task of a lost worker once more, unless its result has arrived."""
        if crashitem not in self._controller.run.cases or report.outcome != "failed":
            return  # pytest-rerunfailures has handled it
        gateway = getattr(report, "node").gateway  # noqa: B009
        self._lost[crashitem] += 1
        if self._reported.get(gateway.id) == crashitem:
            _mark(report, _DONE)
        elif self._lost[crashitem] < _MOST_LOST:
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
        """Show a lost worker's task as rerun, or not at all if its result had arrived."""
        fate = getattr(report, _FATE, None)
        if fate is None:
            return None
        return ("rerun", "R", "RERUN") if fate == _RERUN else ("", "", "")


def _refuse_other_machine(spec: XSpec) -> None:
    """Raises pytest.UsageError unless a worker of *spec* runs on this machine."""
    if not spec.popen or spec.via:
        raise pytest.UsageError(
            f"--tx {spec}: workers on other machines are not supported; run a part of the tasks on "
            "each machine with --shelleval-shard, and merge the results with shelleval merge"
        )


def _mark(report: pytest.TestReport, fate: str) -> None:
    setattr(report, _FATE, fate)
    setattr(report, "outcome", "rerun")  # noqa: B010 - neither passed nor failed
