"""What the controller does where pytest-xdist runs the items in processes of this machine."""

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
"""Workers that one task may lose: then it is the task."""
_MOST_STILLBORN = 2
"""Workers that may end before they have collected anything."""


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
        """Tell a worker what has been settled."""
        _refuse_other_machine(node.gateway.spec)
        send_run(self._controller.run, node.workerinput)

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
        """Remember which item each worker reported last."""
        node = getattr(report, "node", None)
        # what fails in its setup has its result by then
        last = report.when == "call" or (report.when == "setup" and report.failed)
        if node is not None and last:
            self._reported[node.gateway.id] = report.nodeid

    def pytest_testnodedown(self, node: WorkerController, error: object) -> None:
        """Give up if workers end as soon as they start: pytest-xdist would replace them for ever."""
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
        """Run a task whose worker was lost once more, unless its result has arrived."""
        if crashitem not in self._controller.run.cases or report.outcome != "failed":
            return  # pytest-rerunfailures has seen to it
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
        """Show what became of a lost worker's task."""
        fate = getattr(report, _FATE, None)
        if fate is None:
            return None
        return ("rerun", "R", "RERUN") if fate == _RERUN else ("", "", "")


def _refuse_other_machine(spec: XSpec) -> None:
    """Raises pytest.UsageError unless a worker of *spec* runs on this machine."""
    if not spec.popen or spec.via:
        raise pytest.UsageError(
            f"--tx {spec}: workers on other machines are not supported; give each machine a part "
            "of the tasks with --shelleval-shard, and put the results together with shelleval merge"
        )


def _mark(report: pytest.TestReport, fate: str) -> None:
    setattr(report, _FATE, fate)
    setattr(report, "outcome", "rerun")  # noqa: B010 - neither passed nor failed
