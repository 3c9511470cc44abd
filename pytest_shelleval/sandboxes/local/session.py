"""The persistent shell of a sandbox, as its supervisor drives it.

Bash reads its script from a pipe. Each text is one statement, ``eval`` of the text with the report's
descriptor closed around it, and then a line with the status goes to that descriptor. So neither a
heredoc nor a comment nor an open quote in a text can swallow what follows.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import Protocol

_SCRIPT, _TEXT, _REPORT = 117, 118, 119
# Bash reads a pipe byte by byte: longer texts come by a file.
_INLINE = 2000
_LINK = "bash"
_READY = b"ready"


class _Step(Protocol):
    code: int | None
    done: bool


class Session:
    """One bash that keeps directory, variables and functions from text to text."""

    def __init__(
        self,
        spawn: Callable[[list[str | bytes], dict[int, int]], int],
        text: int,
        output_limit: int,
    ) -> None:
        # Late, because that module needs this one.
        from pytest_shelleval.sandboxes.local.supervisor import Output

        script, self._script = os.pipe()
        self.report, report = os.pipe()
        reading, writing = os.pipe()
        os.set_blocking(self.report, False)
        self.output = Output(reading, output_limit)
        self.alive = True
        self.directory = os.getcwdb()
        self._nonce = b"0"
        self._reported = b""
        # Bash names its script in every message; this way it is the name that people know.
        os.symlink(f"/proc/self/fd/{_SCRIPT}", _LINK)
        self.process = spawn(
            ["bash", "--noprofile", "--norc", _LINK],
            {0: 0, 1: writing, 2: writing, _SCRIPT: script, _TEXT: text, _REPORT: report},
        )
        for descriptor in (script, report, writing):
            os.close(descriptor)

    def wait_until_ready(self, seconds: float) -> bool:
        """Whether the shell came up."""
        # On exit the shell stops itself once, and the supervisor notes its directory.
        start = (
            b"exec %d<&-; builtin trap 'builtin kill -STOP \"$$\"' EXIT; "
            b"builtin printf '%%s\\n' %s >&%d\n"
        ) % (_SCRIPT, _READY, _REPORT)
        os.write(self._script, start)
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.report, select.POLLIN)
        line = b""
        while not line.endswith(b"\n"):
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                return False
            part = os.read(self.report, 64)
            if not part:
                return False
            line += part
        os.unlink(os.path.join(self.directory, os.fsencode(_LINK)))
        return line == _READY + b"\n"

    def inline(self, text: bytes) -> bool:
        """Whether *text* is short enough to be given in the statement itself."""
        return len(text) <= _INLINE

    def begin(self, text: bytes | None) -> None:
        """Have the shell run *text*, or the text file if it is None."""
        self._nonce = os.urandom(6).hex().encode()
        self._reported = b""
        quoted = (
            b"'" + text.replace(b"'", b"'\\''") + b"'"
            if text is not None
            else b'"$(</proc/self/fd/%d)"' % _TEXT
        )
        statement = (
            b"builtin eval %s %d<&- %d>&-; { builtin printf '%%s %%s\\n' %s \"$?\" >&%d; } >&- 2>&-\n"
        ) % (quoted, _TEXT, _REPORT, self._nonce, _REPORT)
        try:
            os.write(self._script, statement)
        except BrokenPipeError:
            pass  # its end is about to be noted

    def read_report(self, step: _Step) -> bool:
        """Take what the shell reports; False when it can report no more."""
        try:
            part = os.read(self.report, 4096)
        except BlockingIOError:
            return True
        if not part:
            return False
        lines = (self._reported + part).split(b"\n")
        self._reported = lines.pop()[-256:]
        for line in lines:
            nonce, _, status = line.partition(b" ")
            if nonce == self._nonce and not step.done:
                step.code = int(status) & 255 if status.isdigit() and len(status) < 4 else 1
                step.done = True
                self.note_directory()
        return True

    def note_directory(self) -> None:
        """Remember where the shell is, if it still is."""
        try:
            self.directory = os.readlink(b"/proc/%d/cwd" % self.process)
        except OSError:
            pass

    def ended(self) -> None:
        """The shell is gone."""
        self.alive = False

    def resume(self) -> None:
        """Let the shell go on after it stopped itself."""
        os.kill(self.process, signal.SIGCONT)
