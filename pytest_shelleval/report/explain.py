"""Explains a result, for the report of an item that did not pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_shelleval.core.reasons import sentence_of
from pytest_shelleval.core.results import Result
from pytest_shelleval.report.words import visible

_SHOWN_LINES = 40
_SHOWN_COLUMNS = 400


def explain(result: Result, again: str = "") -> str:
    """Why the task did not pass: the reason on the first line, then each step and its output.

    *again* is the command line that reproduces it.
    """
    command = result.command
    lines = [visible(sentence_of(result)), ""]
    lines += block("task", command.task, "")
    lines += block("setup", "\n".join(command.setup_commands), "$ ")
    lines += output_lines(result.setup_output)
    lines += block("command", command.generated_command or "", "$ ")
    if result.command_exit_code is not None or result.timed_out:
        code = "none: it timed out" if result.timed_out else result.command_exit_code
        lines.append(f"{'':11}exit code {code}" + ("; it left the shell" if result.exited else ""))
        lines += output_lines(result.command_output, truncated=result.output_truncated)
    lines += block("condition", command.success_condition, "$ ")
    if result.test_exit_code is not None or result.test_timed_out:
        code = "none: it timed out" if result.test_timed_out else result.test_exit_code
        lines.append(f"{'':11}exit code {code}")
        lines += output_lines(result.test_output)
    if again and command.generated_command is not None:
        lines.append(f"reproduce  {visible(again)}")
    return "\n".join(lines)


def shortened(output: str) -> str:
    """The *output* of a command as reports show it: visible, the first and last lines of a long one."""
    return "\n".join(_cut(visible(output).splitlines()))


def block(title: str, text: str, prompt: str) -> Iterator[str]:
    """*text* under *title*, with *prompt* before its first line; nothing if it is empty."""
    if not text:
        return
    head = f"{title:<11}"
    for number, line in enumerate(_cut(visible(text).splitlines())):
        yield f"{head if number == 0 else '':11}{prompt if number == 0 else ' ' * len(prompt)}{line}"


def output_lines(
    text: str | None, *, truncated: bool = False, whole: bool = False
) -> Iterator[str]:
    """An output, each line after a bar; the middle of a long one is left out unless *whole*."""
    lines = visible(text or "").splitlines()
    for line in lines if whole else _cut(lines):
        yield f"{'':11}| {line}"
    if truncated:
        yield f"{'':11}| ... (cut at the output limit)"


def _cut(lines: Sequence[str]) -> Iterator[str]:
    """The first and last lines of a long text, with long lines cut."""
    half = _SHOWN_LINES // 2
    left_out = len(lines) - 2 * half
    for number, line in enumerate(lines):
        if left_out > 1 and half <= number < len(lines) - half:
            if number == half:
                yield f"... ({left_out} lines left out)"
            continue
        yield line if len(line) <= _SHOWN_COLUMNS else line[:_SHOWN_COLUMNS] + " ..."
