"""Formats figures and foreign text, for the terminal, Markdown and HTML alike."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator

from pytest_shelleval.core.stats import Estimate

WIDTH = 80

# control characters except newline and tab, marks that change the direction of text, characters
# without width, halves of surrogate pairs
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """*text* with control and invisible characters escaped, as ``\\x1b`` or ``\\u202e``."""

    def written_out(match: re.Match[str]) -> str:
        code = ord(match[0])
        if code > 0xFFFF:
            return f"\\U{code:08x}"
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    return _HIDDEN.sub(written_out, text)


# GitHub's runner reads a line as a workflow command if it begins with :: after any white space, or
# contains ##[; it also starts a line at each \r
_WORKFLOW_COMMAND = re.compile(r"(?:^|(?<=[\r\n]))([^\S\r\n]*):(?=:)|##(?=\[)")


def in_github_actions() -> bool:
    """Whether output goes to GitHub's runner, which executes workflow commands in it."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def inert(text: str) -> str:
    """*text*, whole lines, safe to print: in GitHub Actions no line of it is a workflow command.

    One character of each would-be command is escaped, as ``\\u003a``, which JSON decodes.
    """
    if not in_github_actions():
        return text

    def written_out(match: re.Match[str]) -> str:
        return "#\\u0023" if match[1] is None else match[1] + "\\u003a"

    return _WORKFLOW_COMMAND.sub(written_out, text)


def cut(text: str, width: int = WIDTH) -> str:
    """The first line of *text*, visible, in *width* columns."""
    line = (visible(text).splitlines() or [""])[0]
    return line if len(line) <= width else line[: width - 3] + "..."


def wrapped(text: str, indent: str = "") -> Iterator[str]:
    """*text*, visible, in lines of :data:`WIDTH` columns; all but the first by two further in."""
    yield from textwrap.wrap(
        visible(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )


def percent(rate: float) -> str:
    """``62.5 %``; only rates of exactly 1 and 0 are written as 100 and 0."""
    shown = f"{100 * rate:.1f}"
    if shown == "100.0" and rate < 1:
        shown = "99.9"
    elif shown == "0.0" and rate > 0:
        shown = "0.1"
    return f"{shown} %"


def interval(estimate: Estimate) -> str:
    """``95 % interval 51.2 to 72.6 %``."""
    return f"95 % interval {100 * estimate.low:.1f} to {100 * estimate.high:.1f} %"


def points(difference: Estimate) -> str:
    """A difference of rates in percentage points: ``+3.1 points (95 % interval -1.0 to +7.2)``."""
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"


def p_text(p_value: float) -> str:
    """``p = 0.031``, ``p < 0.001``."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def seconds(value: float) -> str:
    """``12 ms``, ``3.4 s``, ``2 min 5 s``, ``1 h 20 min``."""
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, left = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {left} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, noun: str) -> str:
    """``1 task``, ``1,200 tasks``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
