"""``shelleval extract``: applies this version's extraction rules to kept replies."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.files import dump_line, list_faults, read_json_lines, replace_file


@dataclass(slots=True)
class Changes:
    """What applying this version's rules changed."""

    records: int = 0
    replies: int = 0
    """Records with a raw reply that the rules apply to."""
    own: int = 0
    """Records whose command came from the model itself, a tool call or a hook; they stay."""
    gained: int = 0
    """Records that have a command now and had none before."""
    lost: int = 0
    """Records that had a command before and have none now."""
    other: int = 0
    """Records that have a different command now."""
    backup: Path | None = None
    """A copy of the file before the change; None if nothing changed."""

    @property
    def changed(self) -> int:
        """Records whose command changed."""
        return self.gained + self.lost + self.other


def re_extract(path: Path, *, dry_run: bool = False) -> Changes:
    """Apply this version's extraction to every raw reply in *path*, a commands.jsonl, in place.

    The file is replaced whole, after it was copied to ``NAME.bak`` (``NAME.bak.2``, ...) beside it.
    Records stay unchanged if they have no raw reply, or if their command came from a tool call, the
    model itself (its own code, oracle, noop) or the hook pytest_shelleval_extract. All other fields
    stay too. With *dry_run*, only counts. Raises UserError for a file that can't be read or
    written, or has broken lines.
    """
    changes = Changes()
    lines: list[str] = []
    faults: list[str] = []
    try:
        for number, record in read_json_lines(path):
            try:
                _apply(record, changes, f"{path}:{number}")
            except UserError as error:
                faults.append(str(error))
            lines.append(dump_line(record).decode())
    except UserError as error:
        faults.append(str(error))
    if faults:
        raise UserError(list_faults(faults))
    if changes.changed and not dry_run:
        changes.backup = _back_up(path)
        replace_file(path, "".join(lines))
    return changes


def _apply(record: dict[str, Any], changes: Changes, where: str) -> None:
    from pytest_shelleval.models.extract import extract_command
    from pytest_shelleval.models.records import BY_HOOK, BY_MODEL, verdict
    from pytest_shelleval.models.registry import BUILT_IN

    changes.records += 1
    raw, before = record.get("raw_response"), record.get("generated_command")
    if raw is None:
        return
    if record.get("command_from") in (BY_MODEL, BY_HOOK) or record.get("model") in BUILT_IN:
        changes.own += 1
        return
    if not isinstance(raw, str):
        raise UserError(f"{where}: field 'raw_response': a string expected")
    changes.replies += 1
    found = verdict(extract_command(raw), raw, record.get("finish_reason"))
    command, error = found.command, found.reason
    if command == before:
        return
    changes.gained += before is None
    changes.lost += command is None
    changes.other += before is not None and command is not None
    record["generated_command"] = command
    record["command_from"] = None if command is None else found.rule
    record.pop("error", None)
    if error is not None:
        record["error"] = error
    if record.get("reasoning") is None:
        record["reasoning"] = found.reasoning


def _back_up(path: Path) -> Path:
    """Copy *path* beside itself under a name that is free."""
    number = 1
    while True:
        backup = path.with_name(path.name + (".bak" if number == 1 else f".bak.{number}"))
        try:
            with backup.open("xb") as file:
                file.write(path.read_bytes())
            return backup
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(f"can't write the backup {backup}: {error.strerror}") from error


def add_parser(subparsers: Any) -> None:
    """Declare ``extract``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "extract",
        help="apply this version's extraction rules to the raw replies in a commands.jsonl",
        description="Find the commands in kept raw replies again, by the rules of this version, "
        "without asking the model. The file is replaced whole; a copy stays beside it. Commands from "
        "a tool call, a model's own code or the hook pytest_shelleval_extract stay unchanged.",
    )
    parser.add_argument("file", type=Path, help="a commands.jsonl")
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Extract again and print what changed. Raises UserError for a file that can't be used."""
    done = re_extract(args.file, dry_run=args.dry_run)
    if args.json:
        counts = {name: getattr(done, name) for name in ("records", "replies", "own", "changed")}
        counts |= {name: getattr(done, name) for name in ("gained", "lost", "other")}
        print(json.dumps({**counts, "backup": str(done.backup) if done.backup else None}))
        return 0
    verb = "would change" if args.dry_run else "changed"
    print(f"{args.file}: {done.changed} of {done.replies} replies {verb}")
    if done.changed:
        print(f"  {done.gained} gained a command, {done.lost} lost it, {done.other} got another")
    if done.own:
        print(f"  {done.own} commands of tool calls, models' own code or a hook stay unchanged")
    if done.backup is not None:
        print(f"  backup of the file: {done.backup}")
    return 0
