"""results.jsonl across runs: which earlier results are kept, and how new ones are added.

results.jsonl holds the results of the last run, one line for each command. Results of commands that
this run did not select are not thrown away: results.earlier.jsonl holds the last one of each such
command, until a run that resumes moves it back or a later result replaces it. If both files have a
result of one command, the one in results.jsonl is later.

Existing files are only replaced atomically, and a result is removed from one file only after it is in
the other: whenever the process is killed, no result is lost and all lines are complete.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Any, BinaryIO

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import (
    JsonLinesWriter,
    list_faults,
    locate_json_lines,
    replace_file_by,
)
from pytest_shelleval.core.summary import Key, status_of

RESULTS = "results.jsonl"
EARLIER = "results.earlier.jsonl"
FINISHED = frozenset({"passed", "failed"})
"""Statuses that are a verdict."""


@dataclass(frozen=True, slots=True)
class Line:
    """The place of a result, and the fields that decide whether it is still valid."""

    path: Path
    offset: int
    """Of its first byte in the file."""
    status: str
    key: str | None
    """Its ``execution_key``; None in files of versions and programs that write none."""


class Ledger:
    """The results of one output folder; :meth:`load`, :meth:`begin`, :meth:`write`, :meth:`close`.

    Only for the one process that holds the folder, see :mod:`pytest_shelleval.core.lock`.
    """

    def __init__(self, folder: Path) -> None:
        self.results = folder / RESULTS
        self.earlier = folder / EARLIER
        self.lines: dict[Key, Line] = {}
        """The last result of each command. After :meth:`begin`, only those that were kept."""
        self._aside: dict[Key, Line] = {}
        self._counts: dict[Path, int] = {}
        self._writer: JsonLinesWriter | None = None

    @property
    def begun(self) -> bool:
        """Whether results.jsonl belongs to this run."""
        return self._writer is not None

    def load(self) -> None:
        """Read the results of earlier runs. Raises UserError that names every broken line."""
        faults: list[str] = []
        for path in (self.earlier, self.results):  # the later result comes last
            for left in path.parent.glob(f".{path.name}.*"):  # of a process that was killed
                left.unlink(missing_ok=True)
            self._counts[path] = 0
            if path.exists():
                try:
                    self._load(path, faults)
                except UserError as error:
                    faults += str(error).splitlines()
        if faults:
            raise UserError(
                f"{list_faults(faults)}\nThese results of earlier runs can't be kept: fix the "
                "lines or move the file away"
            )

    def _load(self, path: Path, faults: list[str]) -> None:
        for number, start, record in locate_json_lines(path):
            self._counts[path] += 1
            if record.get("task_id") is None:
                faults.append(f"{path}:{number}: field 'task_id' is missing")
                continue
            key = record.get("execution_key")
            known = key if isinstance(key, str) else None
            self.lines[_id_of(record)] = Line(path, start, intern(status_of(record)), known)

    def begin(self, keep: Collection[Key] = (), drop: Collection[Key] = ()) -> None:
        """Start this run's results.jsonl with the results of *keep*; :meth:`write` adds to it.

        Results of *drop* are deleted, all others move to results.earlier.jsonl. Raises UserError when
        a file can't be written; then both are unchanged, or some results are in both.
        """
        aside = {
            ident: line
            for ident, line in self.lines.items()
            if (ident not in keep or line.path == self.earlier) and ident not in drop
        }
        kept = {ident: line for ident, line in self.lines.items() if ident in keep}
        with contextlib.ExitStack() as stack:
            files = {path: stack.enter_context(_opened(path)) for path in self._counts}
            self._aside = self._write_all(self.earlier, aside, files)
            self.lines = self._write_all(self.results, kept, files)
        self._writer = JsonLinesWriter(self.results)

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a result. Raises UserError when it can't be written."""
        assert self._writer is not None, "begin() comes first"
        self._writer.write(record)

    def close(self, recorded: Collection[Key]) -> int:
        """Close the file; remove commands in *recorded*, which have a later result, from the other.

        Returns how many results remain in results.earlier.jsonl. May be repeated. Raises UserError.
        """
        if self._writer is not None:
            self._writer.close()
        left = {ident: line for ident, line in self._aside.items() if ident not in recorded}
        if len(left) < len(self._aside):
            with _opened(self.earlier) as file:
                self._counts[self.earlier] = len(self._aside)
                self._aside = self._write_all(self.earlier, left, {self.earlier: file})
        return len(left)

    def _write_all(
        self, path: Path, lines: Mapping[Key, Line], files: Mapping[Path, BinaryIO]
    ) -> dict[Key, Line]:
        """Rewrite *path* to consist of *lines*, if it does not yet; returns their new places."""
        if len(lines) == self._counts[path] and all(line.path == path for line in lines.values()):
            return dict(lines)
        if path == self.earlier and not lines:
            path.unlink(missing_ok=True)
            return {}
        moved: dict[Key, Line] = {}
        replace_file_by(path, _copied(path, lines, files, moved))
        return moved


def _copied(
    path: Path,
    lines: Mapping[Key, Line],
    files: Mapping[Path, BinaryIO],
    moved: dict[Key, Line],
) -> Iterator[bytes]:
    end = 0
    for ident, line in lines.items():
        file = files[line.path]
        file.seek(line.offset)
        content = file.readline().rstrip(b"\n") + b"\n"
        moved[ident] = Line(path, end, line.status, line.key)
        end += len(content)
        yield content


def _opened(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """*path* open for reading, even after it is replaced; empty if it does not exist."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return io.BytesIO()
    except OSError as error:
        raise UserError(f"can't read {path}: {error.strerror}") from error


def _id_of(record: Mapping[str, Any]) -> Key:
    return str(record["task_id"]), intern(record.get("model") or ""), record.get("sample") or 0
