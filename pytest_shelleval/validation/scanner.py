"""Finds the simple commands in shell text, in one pass: enough of bash's grammar for advice."""

from __future__ import annotations

import re

_DEEPEST = 20  # nested substitutions


Simple = tuple[list[str], tuple[str, ...]]
"""The words of a simple command, and the files that it reads."""


class SimpleCommand:
    """A simple command while it is parsed."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.reads: list[str] = []
        self._word: list[str] | None = None
        self._operator = ""

    @property
    def between_words(self) -> bool:
        """Whether no word has begun."""
        return self._word is None

    @property
    def assigns(self) -> bool:
        """Whether the word so far is ``name=``."""
        return self._word is not None and "".join(self._word).endswith("=")

    def add(self, text: str) -> None:
        """Continue the word, or begin one."""
        if self._word is None:
            self._word = []
        self._word.append(text)

    def redirect(self, operator: str) -> None:
        """Make the next word the target of the redirection *operator*."""
        if self._word is not None and "".join(self._word).isdigit():
            self._word = None  # 2>file
        self.end_word()
        self._operator = operator

    def end_word(self) -> None:
        """End the current word, if any, and store it."""
        if self._word is None:
            return
        word, self._word = "".join(self._word), None
        operator, self._operator = self._operator, ""
        if not operator:
            self.words.append(word)
        elif operator == "<":
            self.reads.append(word)


class Scanner:
    """Scans a text once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: list[Simple] = []
        self._inner: list[Simple] = []
        self._documents: list[tuple[str, bool]] = []
        self._pending = ""
        self.operator = ";"
        """The operator before the last simple command outside substitutions."""

    def all(self) -> list[Simple]:
        """Every simple command."""
        self._commands("", 0)
        return self._found + self._inner

    def outermost(self) -> list[Simple]:
        """The simple commands outside substitutions."""
        self._commands("", 0)
        return self._found

    def _commands(self, closer: str, depth: int) -> None:
        """Read simple commands up to *closer* (``)``, a backtick) or the end."""
        command, open_groups = SimpleCommand(), 0
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == closer and not open_groups:
                break
            if character in " \t":
                command.end_word()
            elif character == "#" and command.between_words:
                self._skip_line()
            elif character in "\n;|&()":
                if character == "&" and self._peek(">"):
                    command.redirect(">")  # &>file
                    self._operator_end()
                    continue
                if character == "(" and self._skips(command, depth):
                    continue
                if character == "(":
                    open_groups += 1
                elif character == ")" and open_groups:
                    open_groups -= 1
                elif character == ")":
                    command = SimpleCommand()  # a pattern of case
                self._end(command, depth)
                command = SimpleCommand()
                if not depth:
                    self._pending += character
                if character == "\n":
                    self._skip_documents()
            elif character in "<>":
                self._redirection(character, command, depth)
            else:
                self._part(character, command, depth)
        self._end(command, depth)

    def _skips(self, command: SimpleCommand, depth: int) -> bool:
        """Skip a bracketed construct without commands: arithmetic, an array."""
        if self._peek("(") and not command.words:
            self._at += 1
            self._skip_arithmetic(depth)
        elif command.assigns:
            self._until(")")
        else:
            return False
        return True

    def _end(self, command: SimpleCommand, depth: int) -> None:
        command.end_word()
        if command.words or command.reads:
            target = self._inner if depth else self._found
            target.append((command.words, tuple(command.reads)))
            if not depth:
                signs = self._pending.replace(" ", "")
                self.operator = next((s for s in ("||", "&&", "|") if signs.endswith(s)), ";")
                self._pending = ""

    def _part(self, character: str, command: SimpleCommand, depth: int) -> None:
        """A piece of a word that begins with *character*, which is already consumed."""
        if character == "\\":
            following = self._text[self._at : self._at + 1]
            self._at += 1
            if following != "\n":
                command.add(following)
        elif character == "'":
            command.add(self._until("'"))
        elif character == '"':
            command.add(self._double(depth))
        elif character == "$" and self._peek("'"):
            self._at += 1
            command.add(self._until("'", escapes=True))
        elif character in "$`":
            command.add(self._expansion(character, depth))
        else:
            command.add(character)

    def _double(self, depth: int) -> str:
        parts: list[str] = []
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                break
            if character == "\\":
                parts.append(self._text[self._at : self._at + 1])
                self._at += 1
            elif character in "$`":
                parts.append(self._expansion(character, depth))
            else:
                parts.append(character)
        return "".join(parts)

    def _expansion(self, character: str, depth: int) -> str:
        """The whole text of an expansion: ``$x``, ``${x}``, ``$(...)``, ``$((...))`` or backticks."""
        start = self._at - 1
        if character == "`" and depth < _DEEPEST:
            self._commands("`", depth + 1)
        elif self._peek("((") and depth < _DEEPEST:
            self._at += 2
            self._skip_arithmetic(depth + 1)
        elif self._peek("(") and depth < _DEEPEST:
            self._at += 1
            self._commands(")", depth + 1)
        elif self._peek("{"):
            self._until("}")
        else:
            return character
        return self._text[start : self._at]

    def _redirection(self, character: str, command: SimpleCommand, depth: int) -> None:
        if self._peek("(") and depth < _DEEPEST:  # <(...)
            self._at += 1
            command.add("$")
            self._commands(")", depth + 1)
        elif character == "<" and self._peek("<") and not self._peek("<<"):
            self._at += 1
            self._document(command)
        else:
            here_string = character == "<" and self._peek("<<")
            self._operator_end()
            command.redirect("<<<" if here_string else character)

    def _document(self, command: SimpleCommand) -> None:
        """Begin a here-document: remember its delimiter."""
        indented = self._peek("-")
        self._at += indented
        found = re.compile(r"[ \t]*(\\?[^\s;|&<>()]+)").match(self._text, self._at)
        command.end_word()
        if found:
            self._at = found.end()
            self._documents.append((re.sub(r"['\"\\]", "", found[1]), indented))

    def _skip_documents(self) -> None:
        for delimiter, indented in self._documents:
            while self._at < len(self._text):
                line = self._skip_line()
                self._at += 1
                if (line.lstrip("\t") if indented else line) == delimiter:
                    break
        self._documents.clear()

    def _skip_line(self) -> str:
        """Skip to the end of the line, before its newline."""
        end = self._text.find("\n", self._at)
        end = len(self._text) if end < 0 else end
        line, self._at = self._text[self._at : end], end
        return line

    def _skip_arithmetic(self, depth: int) -> None:
        """Skip past the closing ``))``; substitutions inside are parsed."""
        open_brackets = 2
        while self._at < len(self._text) and open_brackets:
            character = self._text[self._at]
            self._at += 1
            if character in "$`":
                self._expansion(character, depth)
            open_brackets += (character == "(") - (character == ")")

    def _operator_end(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in "<>&|-":
            self._at += 1

    def _until(self, closer: str, *, escapes: bool = False) -> str:
        start = self._at
        while self._at < len(self._text):
            character = self._text[self._at]
            self._at += 1
            if character == closer:
                return self._text[start : self._at - 1]
            if escapes and character == "\\":
                self._at += 1
        return self._text[start:]

    def _peek(self, text: str) -> bool:
        return self._text.startswith(text, self._at)
