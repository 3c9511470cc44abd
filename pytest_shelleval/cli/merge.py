"""``shelleval merge``: puts the shards of one run together, as if it had not been split."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_shelleval.settings.values import limit, one_of, whole


@dataclass(frozen=True, slots=True)
class _Wanted:
    output_dir: Path
    baseline: Path | None
    fail_under: str | None
    max_errors: int | None
    fail_on: str | None


def add_parser(subparsers: Any) -> None:
    """Declare ``merge``."""
    text = "put the shards of one run together: results, summary, report, gates"
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "merge",
        help=text,
        description="Put the shards of one run (pytest --shelleval-shard=I/N) together: "
        "results.jsonl, commands.jsonl, summary.json and report.html as one run would have written "
        "them. Exit status 0, or 1 if a gate is not met.",
    )
    parser.add_argument("shards", type=Path, nargs="+", metavar="DIR", help="folder of a shard")
    parser.add_argument("--output", type=Path, required=True, help="folder for the whole run")
    gates = parser.add_argument_group("gates", "as pytest's --shelleval-...")
    gates.add_argument("--fail-under", type=_typed(limit), metavar="RATE", help="0.8 or lower:0.8")
    gates.add_argument("--max-errors", type=_typed(whole(0)), metavar="N")
    gates.add_argument("--baseline", type=Path, help="an earlier run to compare with")
    gates.add_argument(
        "--fail-on",
        type=_typed(one_of("regression", "significant-regression")),
        metavar="WHAT",
        help="regression or significant-regression; needs --baseline",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Merge, print the outcome and apply the gates. Raises UserError before anything is written."""
    from pytest_shelleval.core.errors import UserError
    from pytest_shelleval.core.lock import FolderLock
    from pytest_shelleval.report.merge import merge
    from pytest_shelleval.report.outcome import conclude
    from pytest_shelleval.report.run import results_file
    from pytest_shelleval.report.words import inert

    if args.baseline is not None:
        results_file(args.baseline)
    elif args.fail_on is not None:
        raise UserError("--fail-on needs an earlier run: name it by --baseline")
    lock = FolderLock(args.output, ["shelleval", *sys.argv[1:]])
    try:
        counts, summary = merge(args.shards, args.output)
        wanted = _Wanted(args.output, args.baseline, args.fail_under, args.max_errors, args.fail_on)
        found = conclude(counts, summary, wanted, {})
    finally:
        lock.release()
    for line in found.lines():
        print(inert(line))
    if found.report is not None:
        print(f"report: {found.report}")
    for line in found.annotations:
        print(line)
    return 0 if found.met else 1


def _typed(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """*parse* as an argparse type: argparse shows the messages of its own error class only."""

    def typed(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{error}, not {text!r}") from error

    return typed
