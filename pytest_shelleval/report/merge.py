"""Merges the shards of one run: their files, and the summary that one run would have written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import replace_file_by
from pytest_shelleval.core.ledger import RESULTS
from pytest_shelleval.core.shards import Shard, parse_shard
from pytest_shelleval.core.summary import Key, ResultCounts, summarize
from pytest_shelleval.report.run import SUMMARY, RecordedRun, load_run, results_file

COMMANDS = "commands.jsonl"

FREE = frozenset(
    {
        "dataset",
        "phase",
        "output_dir",
        "commands_file",
        "shard",
        "base_url",
        "sandbox",  # may be auto; the results have the actual kind
        "sos_port",
        "sos_url",
        "sos_permits",
        "inference_concurrency",
        "request_timeout",
        "rpm",
        "tpm",
        "max_wait",
        "max_cost",
        "inference",
        "refresh",
        "prompt",
        "system_prompt",
        "rootfs",
        "pool_size",
        "validate",
        "resume",
        "reuse",
        "fail_under",
        "max_errors",
        "baseline",
        "fail_on",
    }
)
"""Settings that may differ between shards: places of files and servers, speed, gates."""


@dataclass(slots=True)
class Part:
    """One shard, as read from its files, without the results themselves."""

    folder: Path
    shard: Shard
    summary: dict[str, Any]
    facts: dict[str, Any]
    """What must be equal in all shards of a run; None if unknown for this shard."""
    offsets: dict[Key, int] = field(default_factory=dict)
    """Where the last result of each command starts in results.jsonl, in bytes."""


def merge(folders: Sequence[Path], output: Path) -> tuple[ResultCounts, dict[str, Any]]:
    """Merge the shards in *folders* into *output*: results.jsonl and commands.jsonl.

    Returns the counts of all results, and the object for summary.json. Raises UserError, before
    anything is written, if shards are missing, duplicate, unfinished or of different runs.
    """
    if (output / RESULTS).exists():
        raise UserError(f"{output} already has results: name another folder")
    counts = ResultCounts()
    parts = []
    for folder in folders:
        run = load_run(folder)
        parts.append(_part(run))
        counts.include(run.counts)
    parts.sort(key=lambda part: part.shard.number)
    _check_all_there(parts)
    _check_same_run(parts)
    _check_disjoint(parts)
    replace_file_by(output / RESULTS, _results(parts))
    sources = [path for part in parts if (path := part.folder / COMMANDS).is_file()]
    if sources:
        replace_file_by(output / COMMANDS, _distinct_lines(sources))
    return counts, _summary(parts, counts, output)


def _part(run: RecordedRun) -> Part:
    folder = run.results.parent
    if not run.summary_found:
        raise UserError(
            f"{folder}: {' '.join(run.notes)} This shard did not finish: run it again with "
            "--shelleval-resume"
        )
    named = run.summary.get("shard")
    if not named:
        raise UserError(
            f"{folder} is not a shard: its {SUMMARY} is of a run without --shelleval-shard"
        )
    settings: Mapping[str, Any] = run.summary.get("settings") or {}
    facts = {name: run.summary.get(name) for name in ("dataset_sha256", "prompt_sha256")}
    facts["model"] = run.summary.get("model_name")
    facts["sandbox"] = ", ".join(sorted(run.sandboxes)) or None
    facts |= {name: value for name, value in settings.items() if name not in {*FREE, "model"}}
    offsets = {(row.task_id, row.model, row.sample): row.offset for row in run.rows}
    return Part(folder, parse_shard(str(named)), run.summary, facts, offsets)


def _check_all_there(parts: Sequence[Part]) -> None:
    counts = {part.shard.total for part in parts}
    if len(counts) > 1:
        said = ", ".join(f"{part.folder} is {part.shard}" for part in parts)
        raise UserError(f"these are shards of different runs: {said}")
    by_index: dict[int, Part] = {}
    for part in parts:
        other = by_index.setdefault(part.shard.number, part)
        if other is not part:
            raise UserError(f"shard {part.shard} is given twice: {other.folder} and {part.folder}")
    (count,) = counts
    missing = [str(Shard(n, count)) for n in range(1, count + 1) if n not in by_index]
    if missing:
        raise UserError(f"missing: shard {', '.join(missing)}")


def _check_same_run(parts: Sequence[Part]) -> None:
    faults = []
    for name in dict.fromkeys(name for part in parts for name in part.facts):
        said = [
            (part.folder, value) for part in parts if (value := part.facts.get(name)) is not None
        ]
        for folder, value in said[1:]:
            if value != said[0][1]:
                faults.append(f"{name} is {said[0][1]} in {said[0][0]}, {value} in {folder}")
                break
    if faults:
        raise UserError("these are shards of different runs: " + "; ".join(faults))


def _check_disjoint(parts: Sequence[Part]) -> None:
    seen: dict[Key, Part] = {}
    for part in parts:
        for ident in part.offsets:
            other = seen.setdefault(ident, part)
            if other is not part:
                raise UserError(f"task {ident[0]} is in both {other.folder} and {part.folder}")


def _results(parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        path = results_file(part.folder)
        try:
            with path.open("rb") as file:
                for offset in sorted(part.offsets.values()):
                    file.seek(offset)
                    yield file.readline().rstrip(b"\n") + b"\n"
        except OSError as error:
            raise UserError(f"can't read {path}: {error.strerror}") from error


def _distinct_lines(paths: Iterable[Path]) -> Iterator[bytes]:
    """The lines of *paths*, each once: shards that only execute may share one file."""
    seen: set[bytes] = set()
    for path in paths:
        try:
            with path.open("rb") as file:
                for line in file:
                    digest = hashlib.blake2b(line.strip(), digest_size=16).digest()
                    if line.endswith(b"\n") and line.strip() and digest not in seen:
                        seen.add(digest)
                        yield line
        except OSError as error:
            raise UserError(f"can't read {path}: {error.strerror}") from error


def _summary(parts: Sequence[Part], counts: ResultCounts, output: Path) -> dict[str, Any]:
    """The summary of all shards: figures are recounted, the rest is what the shards share."""
    summaries = [part.summary for part in parts]
    first = next((each for each in summaries if each["total_samples"]), summaries[0])
    settings = dict(first.get("settings") or {})
    settings.update(shard=None, output_dir=str(output), commands_file=str(output / COMMANDS))
    counted = summarize(counts, total=_sum(summaries, "total_samples"))
    times = [each["evaluation_time"] for each in summaries if each.get("evaluation_time")]
    known: dict[str, Any] = {
        "cost": _sum(summaries, "cost"),
        "model_name": first.get("model_name"),
        "dataset_path": first.get("dataset_path"),
        "evaluation_time": max(times, default=None),  # as if they had run at the same time
        "replayed": _sum(summaries, "replayed"),
        "kept": _sum(summaries, "kept"),
        "versions": _together([each.get("versions") or {} for each in summaries]),
        "git_commit": _together([{"": each.get("git_commit")} for each in summaries]).get(""),
        "shard": None,
        "shards": [
            {
                "shard": str(part.shard),
                "folder": str(part.folder),
                "total_samples": part.summary["total_samples"],
                "complete": part.summary["complete"],
                "evaluation_time": part.summary.get("evaluation_time"),
            }
            for part in parts
        ],
        "settings": settings,
    }
    return {**first, **counted, **known}


def _sum(summaries: Iterable[Mapping[str, Any]], name: str) -> Any:
    """The sum of a figure; None if no shard has it."""
    found = [each[name] for each in summaries if each.get(name) is not None]
    return round(sum(found), 6) if found else None


def _together(dictionaries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The values by name; all of them if they differ."""
    found: dict[str, dict[str, None]] = {}
    for each in dictionaries:
        for name, value in each.items():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(values) for name, values in found.items()}
