"""The command ``shelleval``: tools for runs, datasets and machines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_shelleval.cli import extract as cli_extract
from pytest_shelleval.cli import merge as cli_merge
from pytest_shelleval.cli import validate as cli_validate
from pytest_shelleval.core.errors import SandboxUnavailable, UserError
from pytest_shelleval.report.words import inert
from pytest_shelleval.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``shelleval`` with *arguments*; return 0 for success, 1 for "no", 2 for invalid input."""
    parsed = build_parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
    except (UserError, SandboxUnavailable) as error:
        print(inert(f"shelleval: {error}"), file=sys.stderr)
        return 2
    return status


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser; each parsed namespace has ``run``, a function that takes it."""
    parser = argparse.ArgumentParser(
        prog="shelleval",
        description="Tools for datasets, machines and the runs of pytest --shelleval-dataset=...",
    )
    parser.add_argument("--version", action="version", version=f"pytest-shelleval {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_doctor(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_reproduce(commands)
    _add_serve(commands)
    cli_extract.add_parser(commands)
    cli_merge.add_parser(commands)
    cli_validate.add_parser(commands)
    return parser


def _add_doctor(commands: Any) -> None:
    from pytest_shelleval.cli.doctor import run

    text = "show which sandboxes work on this machine and how to fix the rest"
    parser = commands.add_parser("doctor", help=text, description=text)
    parser.set_defaults(run=lambda parsed: run())


def _add_report(commands: Any) -> None:
    text = "rewrite report.html from results.jsonl"
    parser = commands.add_parser("report", help=text, description=text)
    parser.add_argument("directory", type=Path, help="folder of a run, or its results.jsonl")
    parser.add_argument("--baseline", type=Path, help="an earlier run, shown side by side")
    parser.set_defaults(run=_report)


def _report(parsed: argparse.Namespace) -> int:
    from pytest_shelleval.report.html import write_report

    print(write_report(parsed.directory, baseline=parsed.baseline))
    return 0


def _add_compare(commands: Any) -> None:
    text = "compare two runs: tasks fixed or broken, and whether that is more than chance"
    parser = commands.add_parser("compare", help=text, description=text)
    parser.add_argument("a", type=Path, help="the earlier run: its folder or results.jsonl")
    parser.add_argument("b", type=Path, help="the later run")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_compare)


def _compare(parsed: argparse.Namespace) -> int:
    from pytest_shelleval.report.compare import compare

    comparison = compare(parsed.a, parsed.b)
    if parsed.json:
        print(inert(json.dumps(comparison.to_json(), indent=2)))
    else:
        print(inert("\n".join(comparison.lines())))
    return 0


def _add_reproduce(commands: Any) -> None:
    from pytest_shelleval.cli.reproduce import add_parser

    add_parser(commands)


def _add_serve(commands: Any) -> None:
    from pytest_shelleval.cli.serve import add_serve_parser

    add_serve_parser(commands)


if __name__ == "__main__":
    sys.exit(main())
