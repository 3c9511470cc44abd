"""Reading datasets: JSONL, JSON, CSV, Parquet, a saved Arrow folder, a name on the Hugging Face hub.

Each reader yields unchecked rows with their places; :mod:`.tasks` validates them.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import read_json_lines, replace_file
from pytest_shelleval.core.tasks import Row

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_BLOCK = 1 << 20


def read_rows(dataset: str, *, split: str = "test", base: Path | None = None) -> Iterator[Row]:
    """The rows of *dataset*: a path (relative to *base*), or a name on the Hugging Face hub.

    *split* is used for saved folders that have splits and for the hub. Raises UserError when there
    is no such dataset or it can't be read; a row that can't be read is yielded with its fault.
    """
    path = (base or Path()) / dataset
    if path.is_file():
        return _READERS.get(path.suffix.lower(), _read_jsonl)(path, dataset)
    if path.is_dir():
        return _read_folder(path, dataset, split)
    if is_hub_name(dataset):
        return _read_hub(dataset, split)
    raise UserError(f"dataset {dataset}: no such file or folder")


def is_hub_name(dataset: str) -> bool:
    """Whether *dataset*, which is not an existing path, may be a name on the Hugging Face hub."""
    return _HUB_NAME.fullmatch(dataset) is not None and Path(dataset).suffix.lower() not in _READERS


def is_quick(path: Path) -> bool:
    """Whether *path* needs no heavy library, so that every process can read it by itself."""
    return _READERS.get(path.suffix.lower()) is not _read_parquet


def write_copy(rows: Iterable[Row], path: Path) -> None:
    """Write *rows* to *path*, each with its place, for :func:`read_copy`.

    This is how a dataset that is slow to read (Parquet, the hub) is read once for all processes of
    a run. Raises UserError when it can't be written.
    """
    lines = []
    for row in rows:
        copy = {"where": row.where, "fields": row.fields, "fault": row.fault}
        # values without a JSON type (dates, bytes) occur only in metadata: keep them as text
        lines.append(json.dumps(copy, default=str) + "\n")
    replace_file(path, "".join(lines))


def read_copy(path: Path) -> Iterator[Row]:
    """The rows that :func:`write_copy` wrote to *path*. Raises UserError when it can't be read."""
    for _, copy in read_json_lines(path):
        yield Row(copy["where"], copy["fields"], copy["fault"])


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of the file *path*."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _cannot_read(dataset: str, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"can't read dataset {dataset}: {reason or type(error).__name__}")


def _row(where: str, record: object) -> Row:
    if not isinstance(record, dict):
        return Row(where, {}, f"{where}: a JSON object is expected for each row")
    return Row(where, record)


def _read_jsonl(path: Path, dataset: str) -> Iterator[Row]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                where = f"{dataset}:{number}"
                try:
                    yield _row(where, json.loads(line.decode()))
                except UnicodeDecodeError as error:
                    yield Row(where, {}, f"{where}: not UTF-8: {error}")
                except (ValueError, RecursionError) as error:
                    yield Row(where, {}, f"{where}: not JSON: {error}")
    except OSError as error:
        raise _cannot_read(dataset, error) from error


def _read_json(path: Path, dataset: str) -> Iterator[Row]:
    """An array of objects. A .json file that does not start with ``[`` is read as JSON Lines."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_read(dataset, error) from error
    position = _after_space(text, 0)
    if not text.startswith("[", position):
        yield from _read_jsonl(path, dataset)
        return
    decoder, line, counted = json.JSONDecoder(), 1, 0
    position = _after_space(text, position + 1)
    while not text.startswith("]", position):
        line, counted = line + text.count("\n", counted, position), position
        where = f"{dataset}:{line}"
        try:
            record, position = decoder.raw_decode(text, position)
            position = _after_space(text, position)
            if text.startswith(",", position):
                position = _after_space(text, position + 1)
            elif not text.startswith("]", position):
                raise ValueError("a comma or ] is expected after this row")
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            yield Row(where, {}, f"{where}: not JSON: {reason}")
            return
        yield _row(where, record)


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _read_csv(path: Path, dataset: str) -> Iterator[Row]:
    """A header and rows; an empty cell is an absent field, and a cell may hold a JSON list."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            line = 2
            for cells in reader:
                where = f"{dataset}:{line}"
                line = reader.line_num + 1
                if None in cells:
                    count = len(reader.fieldnames or ())
                    yield Row(where, {}, f"{where}: more cells than the header's {count}")
                    continue
                yield Row(where, {name: _cell(name, cell) for name, cell in cells.items() if cell})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _cannot_read(dataset, error) from error


def _cell(name: str, cell: str) -> Any:
    if name in ("setup_commands", "tags") and cell.lstrip().startswith("["):
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        return value if isinstance(value, list) else cell
    return cell


def _read_parquet(path: Path, dataset: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield Row(f"{dataset} row {number}", record)
    except (OSError, pyarrow.ArrowException) as error:
        raise _cannot_read(dataset, error) from error


def _read_folder(path: Path, dataset: str, split: str) -> Iterator[Row]:
    """A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` made."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:
        raise UserError(
            f"dataset {dataset}: not a folder that datasets' save_to_disk made: {error}"
        ) from error
    if isinstance(loaded, Mapping):
        if split not in loaded:
            raise UserError(
                f"dataset {dataset} has no split {split!r}; --shelleval-split takes one of: "
                + ", ".join(map(str, loaded))
            )
        loaded = loaded[split]
    yield from _numbered(dataset, loaded)


def _read_hub(name: str, split: str) -> Iterator[Row]:
    import datasets

    try:
        loaded = datasets.load_dataset(name, split=split)
    except Exception as error:  # its errors have no common base
        raise UserError(
            f"dataset {name}: no such file here, and the Hugging Face hub did not give its split "
            f"{split!r}: {_root_cause(error)}"
        ) from error
    yield from _numbered(f"{name}[{split}]", loaded)


def _root_cause(error: BaseException) -> str:
    """The first line of the exception that caused *error*: the wrapper of datasets says little."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _numbered(dataset: str, records: Any) -> Iterator[Row]:
    for number, record in enumerate(records, 1):
        yield Row(f"{dataset} row {number}", record)


_READERS: Mapping[str, Callable[[Path, str], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
