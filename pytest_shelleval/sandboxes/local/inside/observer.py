"""Remembers the state of the sandbox at a mark, and reports what has changed since."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_shelleval.sandboxes.local.inside import effects, watch
from pytest_shelleval.sandboxes.local.inside.tampering import Tampering
from pytest_shelleval.sandboxes.local.world import rootfs
from pytest_shelleval.sandboxes.local.world.layers import Place


class Observer:
    """Marks the state of the sandbox, and compares later states with it."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self.parts = [(place.path, place.upper) for place in places]
        """Path and writable layer of each writable part."""
        # Nothing has been done in a new sandbox.
        self._mark = effects.Mark()
        self._excused: frozenset[str] = frozenset()

    def mark(self, session: int) -> None:
        """Ignore the present state, the setup's work, in later reports."""
        self._mark = effects.Mark(self._places)
        self._mark.processes = self._running(session)
        judged = Tampering(self._mark, self._places)
        self._excused = frozenset(judged.tampered + judged.removed)

    @staticmethod
    def _running(session: int) -> dict[int, tuple[str, bytes]]:
        # Usually there are none, which two short reads show.
        return dict(effects.processes(session)) if watch.left_behind(session) else {}

    def effects(self, session: int) -> bytes:
        """The encoded effects since the mark; *session* is the session's shell."""
        walk = effects.Walk(self._places)
        walk.add_hidden(self._mark)
        judged = Tampering(walk, self._places)
        mark = self._mark
        running = sorted(
            name
            for process, (name, start) in self._running(session).items()
            if mark.processes.get(process) != (name, start)
        )
        traffic = effects.network()
        return effects.pack(
            effects.compare(walk, mark),
            running,
            (traffic[0] - mark.network[0], traffic[1] - mark.network[1]),
            walk.whole,
            rootfs.HOME,
            [path for path in judged.tampered if path not in self._excused],
            [path for path in judged.removed if path not in self._excused],
        )
