"""Extracts the command from a model's reply."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from pytest_shelleval.models.extract_json import find_json_command
from pytest_shelleval.models.shelltext import (
    is_command_text,
    is_json,
    is_other_language,
    is_placeholder,
    is_prose,
    starts_like_command,
    tidy,
)

OPEN_ENDED_RULES = frozenset({"open-fence", "open-json", "text"})
"""Rules whose command extends to the end of the reply: incomplete, if the reply was cut off."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """What :func:`extract_command` found. Either ``command`` or ``reason`` is set."""

    command: str | None
    """Never empty or blank."""
    rule: str
    """The rule that found it; ``none`` without a command."""
    reason: str | None = None
    """Why there is no command, one line."""
    reasoning: str | None = None
    """The text in ``<think>`` tags."""


def extract_command(text: str, *, cut: bool = False) -> Extraction:
    """The shell command in *text*, a model's reply. Never raises; linear in the text's length.

    *cut* says that the end of the reply is missing: then only a complete command counts, not one
    that extends to the end (:data:`OPEN_ENDED_RULES`).

    First the reasoning is removed: ``<think>`` to ``</think>``; everything before a ``</think>`` that
    was never opened; everything after a ``<think>`` that is never closed. The reply ends at the first
    ``<|im_end|>`` or other such marker of a chat template. Then the first of these rules that finds
    a command wins, with the first command that it finds:

    - ``json``: a JSON object with a string ``command``, anywhere in the text, also with other keys;
      raw line breaks in the string and trailing commas are accepted.
    - ``json-repaired``: the same in invalid JSON (inner quotes not escaped, single or typographic
      quotes, an unquoted key), if only one reading leaves the command's own quotes balanced;
      ``open-json`` if the closing brace is missing. JSON that is cut off inside the command has no
      command.
    - ``fence``: a code block marked as shell, else an unmarked one that is not announced as output
      and is not plainly another language; of a transcript (``$ ls``) only the typed lines.
    - ``open-fence``: the same if the block is never closed. ``before-fence``: a command before a
      closing fence that was never opened (the prompt had opened it).
    - ``text``: the whole reply, without a label like ``Command:`` or a leading sentence with a
      colon, if it starts like a command and none of its lines is prose.
    - ``inline``: code in backticks amid prose: the first with an argument; a single word only if
      there is no other.
    - ``paragraph``: a first paragraph that is a command, followed by prose.

    A shebang and comments before the command are dropped. Placeholders (``[your_command_here]``),
    comments alone and Python are not commands.
    """
    answer, reasoning, closed = _split_reasoning(text.replace("\r\n", "\n"))
    answer = _until_marker(answer).strip()
    if not answer:
        if not closed:
            reason = "the reply ends within its reasoning"
        elif reasoning is not None:
            reason = "the reply holds reasoning but no answer"
        else:
            reason = "the reply is empty"
        return Extraction(None, "none", reason, reasoning)
    if cut:
        answer = answer[: next((b.start for b in _blocks(answer) if not b.closed), None)]
    command, rule, fault = _find(answer)
    if cut and rule in OPEN_ENDED_RULES:
        command, rule, fault = None, "none", "the reply ends in the middle of the command"
    return Extraction(command, rule, fault, reasoning)


_Found = tuple[str, str]  # the command and the rule


def _find(answer: str) -> tuple[str | None, str, str | None]:
    blocks = list(_blocks(answer))
    # JSON inside a shell block belongs to the command there.
    shell = [(b.start, b.end) for b in blocks if b.is_shell and b.content[:1] not in ("{", "[")]
    command, rule, reason = find_json_command(answer, shell)
    if command is not None:
        return command, rule, None
    found: _Found | None
    if blocks:
        for block in blocks:
            block.announced = not block.name and _is_announced_as_output(answer, block)
        found = (
            _from_blocks([b for b in blocks if not b.announced])
            or _from_text_before(answer, blocks[0])
            or _from_inline_code(answer)
            or _from_blocks([b for b in blocks if b.announced and is_command_text(b.content)])
        )
        reason = reason or _why_no_block(blocks)
    else:
        found = None if reason else _from_text(answer)
        found = found or _from_inline_code(answer) or _from_first_paragraph(answer)
    return (*found, None) if found else (None, "none", reason or _why_none(answer))


def _checked(text: str) -> str | None:
    command = tidy(text)
    return command if command and not is_placeholder(command) else None


# Reasoning and template markers

_THINK = re.compile(
    r"(?:^|\n)[ \t]*<(?:think|thinking|reasoning)>|</(?:think|thinking|reasoning)>", re.IGNORECASE
)
_MARKER = re.compile(r"<\|[a-z_]{1,40}\|>|<(?:start|end)_of_turn>|</s>\s*\Z")
_LEADING_MARKER = re.compile(r"\s*<\|im_start\|>(?:assistant)?\s*\n")
_HARMONY_FINAL = "<|channel|>final<|message|>"


def _split_reasoning(text: str) -> tuple[str, str | None, bool]:
    """``(answer, reasoning, whether the reasoning was closed)``."""
    answer: list[str] = []
    thoughts: list[str] = []
    thinking, position = False, 0
    for tag in _THINK.finditer(text):
        opens = "</" not in tag[0]
        if thinking and opens:
            continue
        piece = text[position : tag.start()]
        if thinking:
            thoughts.append(piece)
        elif opens:
            answer.append(piece)
        else:
            thoughts += [*answer, piece]
            answer = []
        thinking, position = opens, tag.end()
    (thoughts if thinking else answer).append(text[position:])
    reasoning = "\n".join(part.strip() for part in thoughts if part.strip())
    return "".join(answer), reasoning or None, not thinking


def _until_marker(text: str) -> str:
    final = text.rfind(_HARMONY_FINAL)
    if final >= 0:
        text = text[final + len(_HARMONY_FINAL) :]
    leading = _LEADING_MARKER.match(text)
    if leading is not None:
        text = text[leading.end() :]
    marker = _MARKER.search(text)
    return text if marker is None else text[: marker.start()]


# Code blocks

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^`]*)$")
_FENCE_AFTER_TEXT = re.compile(r"[ \t:](`{3,})(\w*)[ \t]*$")
_ONE_LINE_BLOCK = re.compile(r"[ \t]*```([^`]+)```[ \t]*$")
_INFO = re.compile(r"\{?\.?([\w+-]*)")
_SHELL_NAMES = frozenset(
    """bash sh shell zsh ksh dash console terminal cmd command commandline shellscript shell-script
    shell-session shellsession bash-session sh-session""".split()  # noqa: SIM905
)
_HEADING = re.compile(r"[\w ]+:$")
_OUTPUT_LABEL = re.compile(r"\boutputs?\b|\bresults?\b|\blooks? like\b", re.IGNORECASE)


@dataclass(slots=True)
class _Block:
    name: str
    start: int
    content: str = ""
    end: int = 0
    closed: bool = True
    announced: bool = False
    """As output."""

    @property
    def is_shell(self) -> bool:
        return self.name in _SHELL_NAMES


def _blocks(text: str) -> Iterator[_Block]:
    block: _Block | None = None
    fence, indent = "", ""
    lines: list[str] = []
    position = 0

    def ended(end: int, closed: bool) -> _Block:
        assert block is not None
        content = "\n".join(lines)
        block.content = (textwrap.dedent(content) if indent else content).strip("\n")
        block.end, block.closed = end, closed
        return block

    for line in text.split("\n"):
        start, position = position, position + len(line) + 1
        mark = _FENCE.match(line)
        if block is not None:
            same = mark is not None and mark[2][0] == fence[0] and len(mark[2]) >= len(fence)
            if not same or mark is None:
                if fence[0] == "`" and line.rstrip().endswith("```") and line.count("```") == 1:
                    lines.append(line.rstrip()[:-3])
                    yield ended(position - 1, True)
                    block = None
                else:
                    lines.append(line)
                continue
            yield ended(start, True)
            block = None
            if not mark[3].strip():
                continue
        one = _ONE_LINE_BLOCK.match(line)
        if one is not None:
            name, _, rest = one[1].strip().partition(" ")
            named = name.lower() in _SHELL_NAMES and rest
            yield _Block(name.lower() if named else "", start, rest if named else one[1], position)
            continue
        after_text = _FENCE_AFTER_TEXT.search(line) if mark is None and "```" in line else None
        if mark is not None or after_text is not None:
            indent = mark[1] if mark is not None else ""
            fence, info = (mark[2], mark[3]) if mark else (after_text[1], after_text[2])  # type: ignore[index]
            name = _INFO.match(info)
            block = _Block(name[1].lower() if name else "", start)
            lines = []
    if block is not None:
        yield ended(len(text), False)


def _from_blocks(blocks: list[_Block]) -> _Found | None:
    plain = [b for b in blocks if not b.name and not is_other_language(b.content)]
    for block in [b for b in blocks if b.is_shell] + plain:
        command = _checked(block.content)
        if command is None or is_json(command):
            continue
        first = command.split("\n", 1)[0]
        if block.closed and (block.is_shell or not _HEADING.match(first)):
            return command, "fence"
        if not block.closed and not is_prose(first):
            return command, "open-fence"
    return None


def _from_text_before(text: str, block: _Block) -> _Found | None:
    before = text[: block.start]
    command = _checked(before) if not block.name and is_command_text(before) else None
    return (command, "before-fence") if command else None


def _is_announced_as_output(text: str, block: _Block) -> bool:
    before = text[max(0, block.start - 200) : block.start].rstrip()
    return bool(_OUTPUT_LABEL.search(before[before.rfind("\n") + 1 :]))


def _why_no_block(blocks: list[_Block]) -> str:
    others = [b.name for b in blocks if b.name and not b.is_shell]
    if len(others) == len(blocks):
        return f"the code block is {others[0]}, not shell"
    if any(is_placeholder(tidy(b.content) or b.content) for b in blocks):
        return "the code block has a placeholder instead of a command"
    if all(not tidy(b.content) for b in blocks):
        return "the code block has only comments"
    return "no code block of the reply holds a shell command"


# Text without blocks

_LABEL = re.compile(
    r"\W{0,4}(?:(?:final )?answer|(?:the )?(?:bash |shell )?command|solution|bash|shell)\W{0,4}:[*\s]*",
    re.IGNORECASE,
)
_INLINE = re.compile(r"(?<!`)(`{1,2})(?!`)([^`\n]+)\1(?!`)")
_MOST_INLINE = 200
_REFUSAL = re.compile(r"\b(?:sorry|can(?:no|')t|unable to|apologi[sz]e|as an ai)\b", re.IGNORECASE)


def _from_text(answer: str) -> _Found | None:
    label = _LABEL.match(answer)
    if label is not None:
        answer = answer[label.end() :]
    first, newline, rest = answer.partition("\n")
    if newline and first.rstrip().endswith(":") and is_prose(first):
        answer = rest.strip()
    quote = answer[:1]
    if quote in ("'", '"') and answer.endswith(quote) and answer.count(quote) == 2:
        answer = answer[1:-1]
    command = _checked(answer) if is_command_text(answer) else None
    return (command, "text") if command else None


def _from_inline_code(answer: str) -> _Found | None:
    matches = islice(_INLINE.finditer(answer), _MOST_INLINE)
    spans = [command for match in matches if (command := _checked(match[2])) is not None]
    for span in spans:
        if " " in span and starts_like_command(span):
            return span, "inline"
    if len(set(spans)) == 1 and (starts_like_command(spans[0]) or _INLINE.fullmatch(answer)):
        return spans[0], "inline"
    return None


def _from_first_paragraph(answer: str) -> _Found | None:
    first, _, rest = answer.partition("\n\n")
    if not is_prose(rest.lstrip().split("\n", 1)[0]) or not is_command_text(first):
        return None
    command = _checked(first)
    return (command, "paragraph") if command else None


def _why_none(answer: str) -> str:
    if _REFUSAL.search(answer[:1000]):
        return "the model declined"
    if is_placeholder(answer):
        return "the reply is a placeholder instead of a command"
    if not tidy(answer):
        return "the reply has only comments"
    if is_json(answer):
        return "the JSON of the reply has no command in it"
    return "the reply holds no command"
