"""A fresh shell that is started before its text is known.

The first request to a sandbox is most often a setup. Its shell is started with the sandbox, so it costs
no time when the text comes.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from pytest_shelleval.sandboxes.local.inside.output import Output
from pytest_shelleval.sandboxes.local.protocol import SCRIPT_DESCRIPTOR as _SCRIPT

LONGEST_TEXT = 2000
"""Bytes; low, because bash reads a pipe byte by byte."""
# Behaves like bash -c with the text: the same name in messages, line numbers and variables.
_WAIT = b'read -r -d "" -u %d; exec %d<&-; eval "unset REPLY; $REPLY"' % (_SCRIPT, _SCRIPT)


class ShellAhead:
    """One fresh bash that waits for its text: call :meth:`begin` or :meth:`drop`."""

    def __init__(
        self, spawn: Callable[[list[str | bytes], dict[int, int]], int], output_limit: int
    ) -> None:
        script, self._script = os.pipe()
        reading, writing = os.pipe()
        self.output = Output(reading, output_limit)
        try:
            self.process = spawn(
                ["bash", "-c", _WAIT], {0: 0, 1: writing, 2: writing, _SCRIPT: script}
            )
        finally:
            os.close(script)
            os.close(writing)

    def begin(self, text: bytes) -> None:
        """Run *text*, which has no NUL."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._script, text + b"\0")
        os.close(self._script)

    def drop(self) -> None:
        """Kill it, so that commands can't notice that it existed."""
        os.close(self._script)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.output.descriptor)
