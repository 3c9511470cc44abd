"""Machines that no longer answer: where a lost worker is replaced, and how often a task is tried."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pytest_shelleval.adapter.distributed.specs import answers, is_near, machine_of

if TYPE_CHECKING:
    from execnet import Group, XSpec

MOST_LOST = 3
"""Workers that one task may lose, for whatever reason."""
_MOST_DIED = 2
"""Workers that one task may lose on machines that go on to answer: then it is the task."""


class Lost:
    """What is known of lost workers, and of machines that are gone for good."""

    def __init__(self) -> None:
        self._gone: set[str] = set()
        self._lost: Counter[str] = Counter()
        self._died: Counter[str] = Counter()

    def is_gone(self, spec: XSpec, group: Group) -> bool:
        """Whether the machine of *spec* does not answer; one that once did not is not asked again."""
        machine = machine_of(spec)
        if machine and machine not in self._gone and not answers(spec, group):
            self._gone.add(machine)
        return machine in self._gone

    def other_place(
        self, places: Iterable[XSpec], load: Mapping[str, int], group: Group
    ) -> XSpec | None:
        """Where to start a worker in place of one whose machine is gone; None: nowhere.

        *places* are those of all workers so far, *load* the workers that each machine has now. The
        machine with the fewest is taken.
        """
        # a socket has a server that serves one worker
        known = {machine_of(spec): spec for spec in places if not spec.socket}
        for machine in sorted(known, key=lambda each: load.get(each, 0)):
            if is_near(known[machine]) or not self.is_gone(known[machine], group):
                return copy.copy(known[machine])
        return None

    def worth_another(self, nodeid: str, machine: str) -> bool:
        """Whether *nodeid*, whose worker on *machine* was lost, is to be run again."""
        self._lost[nodeid] += 1
        self._died[nodeid] += machine not in self._gone
        return self._lost[nodeid] < MOST_LOST and self._died[nodeid] < _MOST_DIED
