"""``shelleval validate``: checks that every row of a dataset is sound."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_shelleval.core.errors import SandboxUnavailable, UserError

if TYPE_CHECKING:
    from pytest_shelleval.core.sandbox import SandboxProvider
    from pytest_shelleval.settings.settings import Settings
    from pytest_shelleval.validation.findings import Report

_OPTIONS = (
    *("split", "max-samples", "sandbox", "rootfs", "sandbox-image", "network"),
    *("sos-url", "sos-port", "sos-permits", "strict-setup", "command-timeout", "setup-timeout"),
    *("memory", "disk", "processes", "output-limit"),
)
_MOST_JOBS = 8
_DESCRIPTION = """\
Try every row of a dataset in sandboxes: the setup succeeds, the condition fails when nothing is
done, after `exit 0` and after everything in the start directory is deleted, and passes with
gold_command, three times over. Warn of rows that depend on network, sudo, the machine or the clock,
and of duplicate rows."""
_EPILOG = """\
Exit status: 0 all rows are sound; 1 some are faulty; 2 wrong input, or no sandbox here; 3 no row is
faulty, but not all could be judged (interrupted, sandboxes failed). As in a run, the environment
variables SHELLEVAL_* set the defaults of the options."""


def add_parser(subparsers: Any) -> None:
    """Declare ``validate``; its options are those of a run, without the prefix."""
    from pytest_shelleval.settings.table import OPTIONS

    parser: argparse.ArgumentParser = subparsers.add_parser(
        "validate",
        help="check that every row of a dataset is sound",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "dataset", nargs="+", help="a file, a saved folder, or a name on the Hugging Face hub"
    )
    parser.add_argument(
        "-j",
        "-n",
        "--jobs",
        type=_at_least_one,
        default=min(os.cpu_count() or 1, _MOST_JOBS),
        help="sandboxes at a time (default: one per processor, here %(default)s)",
    )
    parser.add_argument(
        "--steps",
        choices=("auto", "separate", "shared"),
        help="as in a run; auto (default) finds out which of the two the gold commands need",
    )
    parser.add_argument("--strict", action="store_true", help="warnings make the exit status 1 too")
    parser.add_argument(
        "--json", metavar="FILE", help="write the report as JSON; - for stdout, with nothing else"
    )
    table = {option.name: option for option in OPTIONS}
    for name in _OPTIONS:
        option = table[name]
        text = option.help + (f" (default: {option.default})" if option.default else "")
        action = "append" if option.many else "store"
        kind: dict[str, Any] = {"action": action, "metavar": option.field.upper()}
        if option.switch:
            kind = {"action": "store_true"}
        parser.add_argument(
            f"--{name}",
            dest=option.key,
            default=None,
            help=text.replace("%", "%%").replace("--shelleval-", "--"),
            **kind,
        )
    parser.set_defaults(run=run)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of at least 1 is expected, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Validate, print the report, and return the exit status.

    Raises UserError for a dataset or option that can't be used, SandboxUnavailable if no sandbox
    works.
    """
    _check_target(args.json)
    try:
        report = _validate(args)
    except (UserError, SandboxUnavailable) as error:
        # the options have no prefix here
        raise type(error)(str(error).replace("--shelleval-", "--")) from error
    _write(report, args.json)
    return report.exit_status(strict=args.strict)


def _check_target(target: str | None) -> None:
    """Check that the report can be written, before an hour is spent on it. Raises UserError."""
    if target in (None, "-"):
        return
    folder = Path(str(target)).absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(str(target)).is_dir():
        raise UserError(f"can't write {target}: name a file in a folder that can be written")


def _validate(args: argparse.Namespace) -> Report:
    from pytest_shelleval.core.datasets import read_rows
    from pytest_shelleval.core.tasks import sift_tasks
    from pytest_shelleval.report.progress import Progress
    from pytest_shelleval.settings.resolve import resolve
    from pytest_shelleval.validation.validate import Validation

    settings = resolve(vars(args), os.environ, lambda key: None, Path.cwd())
    datasets = [read_rows(name, split=settings.split) for name in args.dataset]
    tasks, faults = sift_tasks(datasets, max_samples=settings.max_samples)
    if not any(tasks) and not faults:
        raise UserError(f"dataset {', '.join(args.dataset)}: there are no rows in it")
    with contextlib.closing(_provider(settings, args.jobs)) as provider:
        progress = Progress("shelleval validate", sys.stderr, terminal=sys.stderr.isatty())
        validation = Validation(
            [task for each in tasks for task in each],
            provider,
            settings.policy,
            steps=_steps(args.steps, settings),
            jobs=args.jobs,
            faults=faults,
            datasets=args.dataset,
            progress=lambda done, total, faulty: progress.show(
                done, total, f"tried, {faulty} faulty"
            ),
        )
        try:
            validation.run()
        except KeyboardInterrupt:
            pass
        finally:
            progress.end()
        return validation.report()


def _steps(given: str | None, settings: Settings) -> Literal["auto", "separate", "shared"]:
    if given is None and "steps" in settings.given:
        given = settings.steps
    return "separate" if given == "separate" else "shared" if given == "shared" else "auto"


def _provider(settings: Settings, jobs: int) -> SandboxProvider:
    """A provider of the sandboxes that the user chose, after a check that they work."""
    from dataclasses import replace

    from pytest_shelleval.sandboxes.registry import check, provide

    with contextlib.redirect_stdout(sys.stderr):  # the check reports image pulls
        kind = check(settings.sandbox_spec)
    return provide(replace(settings.sandbox_spec, kind=kind, pool_size=jobs))


def _write(report: Report, target: str | None) -> None:
    from pytest_shelleval.core.files import replace_file
    from pytest_shelleval.report.words import inert
    from pytest_shelleval.validation.text import lines

    text = json.dumps(report.to_json(), indent=2) + "\n"
    if target == "-":
        sys.stdout.write(inert(text))
        return
    for line in lines(report):
        print(inert(line))
    if target is not None:
        replace_file(Path(target), text)
