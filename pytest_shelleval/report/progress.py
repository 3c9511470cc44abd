"""Shows progress: a bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any, Protocol

from pytest_shelleval.report.words import inert

if TYPE_CHECKING:
    from tqdm import tqdm

_LINE_SECONDS = 1.0
_ROWS = 24  # a pseudo-terminal may say that it has none, and tqdm then shows nothing


class Out(Protocol):
    """Where progress is written."""

    def write(self, text: str, /) -> object:
        """Write *text* unchanged."""
        ...

    def flush(self) -> None:
        """Flush what was written."""
        ...


class Progress:
    """A progress display: the number done, rate and time left."""

    def __init__(self, label: str, out: Out | None, *, terminal: bool) -> None:
        """*out* is where to write, None for nowhere; *terminal*: whether a line can be redrawn."""
        self._label = label
        self._out = out
        self._terminal = terminal
        self._bar: tqdm[Any] | None = None
        self._done = 0
        self._note = ""
        self._tenths = 0
        self._started = self._written = time.monotonic()

    def show(self, done: int, total: int, note: str) -> None:
        """Show that *done* of *total* are done, and *note*, unless the last update was just now."""
        new, self._done = done - self._done, done
        if self._out is None:
            return
        if self._terminal:
            if self._bar is None:
                self._bar = self._make_bar(self._out, total)
            self._bar.update(new)
            if note != self._note:  # tqdm redraws by itself only now and then
                self._note = note
                self._bar.set_postfix_str(note)
        elif self._is_due(total):
            seconds = time.monotonic() - self._started
            text = f"{done}/{total} {note}, {seconds:.1f} s"
            self._out.write(inert(f"{self._label}: {text}") + "\n")

    def say(self, text: str) -> None:
        """Show a line of text, such as what is being waited for."""
        if self._out is None:
            return
        if self._bar is not None:
            self._bar.clear()
        self._out.write(inert(f"{self._label}: {text}") + "\n")
        self._out.flush()

    def end(self) -> None:
        """End the line of the bar; may be repeated."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def _make_bar(self, out: Out, total: int) -> tqdm[Any]:
        from tqdm import tqdm

        return tqdm(
            desc=self._label,
            total=total,
            file=out,
            ncols=shutil.get_terminal_size().columns - 1,
            nrows=_ROWS,
            bar_format="{desc} [{bar:10}] {n_fmt}/{total_fmt} {rate_fmt} {remaining} left{postfix}",
        )

    def _is_due(self, total: int) -> bool:
        """Whether to log a line: at each tenth, at most one a second, and at the end."""
        now, tenths = time.monotonic(), self._done * 10 // total
        waited = now - self._written >= _LINE_SECONDS
        due = self._done == total or (tenths > self._tenths and waited)
        if due:
            self._tenths, self._written = tenths, now
        return due
