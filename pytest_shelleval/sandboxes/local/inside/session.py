"""The persistent shell of a sandbox, as its supervisor drives it.

Bash reads its script from a pipe. Each text is one statement: ``eval`` of the text, with the report's
descriptor closed, after which the status is written to that descriptor. So no heredoc, comment or open
quote in a text can swallow what follows.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from pytest_shelleval.sandboxes.local.inside.output import Output
from pytest_shelleval.sandboxes.local.protocol import REPORT_DESCRIPTOR as _REPORT
from pytest_shelleval.sandboxes.local.protocol import SCRIPT_DESCRIPTOR as _SCRIPT
from pytest_shelleval.sandboxes.local.protocol import SCRIPT_LINK
from pytest_shelleval.sandboxes.local.protocol import TEXT_DESCRIPTOR as _TEXT

# Bytes. Bash reads a pipe byte by byte: longer texts are passed in a file.
_INLINE = 2000
_READY = b"ready"


class Session:
    """One bash that keeps directory, variables and functions from text to text."""

    def __init__(
        self,
        spawn: Callable[[list[str | bytes], dict[int, int]], int],
        text: int,
        output_limit: int,
    ) -> None:
        script, self._script = os.pipe()
        self.report, report = os.pipe()
        reading, writing = os.pipe()
        os.set_blocking(self.report, False)
        self.output = Output(reading, output_limit)
        self.alive = True
        self.directory = os.getcwdb()
        self._nonce = b""
        self._reported = b""
        # Bash names its script in every message, so it is started through a link named bash.
        self.process = spawn(
            ["bash", "--noprofile", "--norc", SCRIPT_LINK],
            {0: 0, 1: writing, 2: writing, _SCRIPT: script, _TEXT: text, _REPORT: report},
        )
        for descriptor in (script, report, writing):
            os.close(descriptor)

    @property
    def shell(self) -> int:
        """The process id of the shell, 0 once it has ended."""
        return self.process if self.alive else 0

    def wait_until_ready(self, seconds: float) -> bool:
        """Wait until the shell runs, for *seconds* at most; whether it does."""
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
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return False
            part = os.read(self.report, 64)
            if not part:
                return False
            line += part
        os.unlink(os.path.join(self.directory, os.fsencode(SCRIPT_LINK)))
        return line == _READY + b"\n"

    def inline(self, text: bytes) -> bool:
        """Whether *text* is short enough to be given in the statement itself."""
        return len(text) <= _INLINE

    def begin(self, text: bytes | None) -> None:
        """Run *text* in the shell, or the text file if it is None."""
        # The nonce excludes reports of an earlier text, or forged by a trap.
        self._nonce = os.urandom(6).hex().encode()
        self._reported = b""
        quoted = (
            b"'" + text.replace(b"'", b"'\\''") + b"'"
            if text is not None
            else b'"$(</proc/self/fd/%d)"' % _TEXT
        )
        # Closed outputs hide the report from "set -x" and DEBUG traps.
        statement = (
            b"builtin eval %s %d<&- %d>&-; "
            b"{ builtin printf '%%s %%s\\n' %s \"$?\" >&%d; } >&- 2>&-\n"
        ) % (quoted, _TEXT, _REPORT, self._nonce, _REPORT)
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is about to be noted
            os.write(self._script, statement)

    def status(self) -> tuple[int | None, bool]:
        """The status that the shell has reported, if any, and whether more reports can come."""
        try:
            part = os.read(self.report, 4096)
        except BlockingIOError:
            return None, True
        if not part:
            return None, False
        lines = (self._reported + part).split(b"\n")
        self._reported = lines.pop()[-256:]
        for line in lines:
            nonce, _, status = line.partition(b" ")
            if nonce == self._nonce:
                return int(status) if status.isdigit() and len(status) < 4 else 1, True
        return None, True

    def note_directory(self) -> None:
        """Remember the shell's directory, if the shell still runs."""
        with contextlib.suppress(OSError):
            self.directory = os.readlink(b"/proc/%d/cwd" % self.process)

    def stopped(self) -> None:
        """Call when the shell has stopped itself: notes its directory and lets it continue."""
        self.note_directory()
        os.kill(self.process, signal.SIGCONT)
