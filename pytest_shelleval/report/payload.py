"""The data inside report.html: an index of all rows, and the records in compressed chunks."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_shelleval.core.ledger import RESULTS
from pytest_shelleval.report.compare import KINDS, Comparison
from pytest_shelleval.report.run import RecordedRun, Row

_PER_CHUNK = 100
_TEXT = 12_000  # characters of one text that the report holds; the whole is in results.jsonl
_LISTED = 240  # characters of a text that the table searches and shows
STATUSES = ("passed", "failed", "error")


def index(run: RecordedRun, comparison: Comparison | None) -> Iterator[str]:
    """Columns of the table as JSON, in parts: one entry per row of *run*, in order.

    Names that many rows share are numbers in the columns, indexes into ``names``.
    """
    names: dict[str, dict[str, int]] = {
        kind: {} for kind in ("model", "tag", "level", "reason", "kind", "change")
    }

    def number(kind: str, name: str | None) -> int:
        return -1 if not name else names[kind].setdefault(name, len(names[kind]))

    changes = _changes(comparison)
    columns: dict[str, Callable[[Row], Any]] = {
        "id": lambda row: row.task_id,
        "task": lambda row: _listed(row.task),
        "command": lambda row: _listed(row.command),
        "status": lambda row: STATUSES.index(row.status) if row.status in STATUSES else 2,
        "model": lambda row: number("model", row.model or "unknown"),
        "sample": lambda row: row.sample,
        "tags": lambda row: [number("tag", tag) for tag in row.tags],
        "level": lambda row: number("level", row.level),
        "reason": lambda row: number("reason", row.reason.label if row.reason else None),
        "detail": lambda row: row.reason.detail if row.reason else "",
        "kind": lambda row: number(
            "kind", (row.error_kind or "other") if row.status == "error" else None
        ),
        "change": lambda row: number("change", changes.get((row.model, row.task_id))),
        "seconds": lambda row: round(row.seconds, 3),
        "tokens": lambda row: row.tokens.get("output"),
    }
    before = '{"columns":{'
    for name, value in columns.items():
        yield f'{before}"{name}":['
        for start in range(0, len(run.rows), _PER_CHUNK):
            values = [value(row) for row in run.rows[start : start + _PER_CHUNK]]
            yield ("," if start else "") + to_json(values)[1:-1]
        before = "],"
    rest = {
        "names": {kind: list(found) for kind, found in names.items()},
        "perChunk": _PER_CHUNK,
        "samples": run.samples,
        "results": shlex.quote(_place(run)),
        "baseline": comparison is not None,
    }
    yield "]}," + to_json(rest)[1:]


def _place(run: RecordedRun) -> str:
    """The run's path for ``shelleval reproduce``: relative if it is inside the current directory."""
    path = run.results.parent if run.results.name == RESULTS else run.results
    with contextlib.suppress(ValueError):
        path = path.absolute().relative_to(Path.cwd())
    return str(path)


def chunks(run: RecordedRun, comparison: Comparison | None) -> Iterator[str]:
    """The records, :data:`_PER_CHUNK` to a chunk: JSON, deflated (zlib), in base64.

    Each is ``[record, record of the baseline or null]``. One chunk is in memory at a time.
    """
    matches = _matches(run, comparison)
    for start in range(0, len(run.rows), _PER_CHUNK):
        part = slice(start, start + _PER_CHUNK)
        before = _before(matches[part], comparison)
        pairs = zip(run.records(run.rows[part]), before, strict=True)
        text = to_json([[slim(now), slim(then) if then else None] for now, then in pairs])
        yield base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def to_json(value: Any) -> str:
    """*value* as JSON that is safe inside a ``script`` element, and that browsers can parse.

    ASCII, so that lone surrogates survive; ``<``, ``>`` and ``&`` are escaped; NaN and the
    infinities, which JSON lacks, become text.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def slim(record: Mapping[str, Any]) -> dict[str, Any]:
    """*record* without empty fields, long texts cut in the middle."""
    return {name: _cut(value) for name, value in record.items() if value not in (None, "", [], {})}


def _matches(run: RecordedRun, comparison: Comparison | None) -> list[Row | None]:
    """The baseline's row for each of *run*: of the same sample if there is one, else the first."""
    if comparison is None:
        return [None] * len(run.rows)
    of_baseline = {pair.model_b: pair.model_a for pair in comparison.models}
    known: dict[tuple[str, str, int | None], Row] = {}
    for row in comparison.a.rows:
        known[row.task_id, row.model, row.sample] = row
        known.setdefault((row.task_id, row.model, None), row)
    matches: list[Row | None] = []
    for row in run.rows:
        model = of_baseline.get(row.model)
        exact = None if model is None else known.get((row.task_id, model, row.sample))
        first = None if model is None else known.get((row.task_id, model, None))
        matches.append(exact or first)
    return matches


def _before(
    matches: Sequence[Row | None], comparison: Comparison | None
) -> Iterator[dict[str, Any] | None]:
    found = [row for row in matches if row is not None]
    records = iter(()) if comparison is None else comparison.a.records(found)
    for row in matches:
        yield None if row is None else next(records)


def _changes(comparison: Comparison | None) -> dict[tuple[str, str], str]:
    if comparison is None:
        return {}
    return {
        (pair.model_b, change.task_id): KINDS[change.kind]
        for pair in comparison.models
        for change in pair.changes
    }


def _listed(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LISTED else line[: _LISTED - 3] + "..."


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _TEXT:
        half = _TEXT // 2
        left_out = len(value) - 2 * half
        return f"{value[:half]}\n... ({left_out:,} characters left out) ...\n{value[-half:]}"
    if isinstance(value, list):
        return [_cut(each) for each in value]
    if isinstance(value, dict):
        return {name: _cut(each) for name, each in value.items()}
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return value
