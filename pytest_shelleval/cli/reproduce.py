"""``shelleval reproduce``: reruns a recorded command and opens a shell in its sandbox."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.execution import Execution, ExecutionPolicy, SetupFailed
from pytest_shelleval.report.explain import block, output_lines
from pytest_shelleval.report.recorded import Recorded, find_recorded
from pytest_shelleval.report.words import inert, visible

if TYPE_CHECKING:
    from pytest_shelleval.core.attempt import Attempt
    from pytest_shelleval.core.sandbox import ExecResult
    from pytest_shelleval.core.tasks import Task
    from pytest_shelleval.sandboxes.base import SandboxSpec


def add_parser(subparsers: Any) -> None:
    """Declare ``reproduce``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "reproduce",
        help="rerun one result's setup and command, and open a shell in its sandbox",
        description="Run setup and command of one recorded result in a fresh sandbox, with the run's "
        "kind of sandbox, limits and times, and give a shell in it.",
    )
    parser.add_argument("results", type=Path, help="the run: its folder or results.jsonl")
    parser.add_argument(
        "task_id", help="the task's id, or the item's name: task-3, 'task-3[0]', 'task-3[model-0]'"
    )
    parser.add_argument("--check", action="store_true", help="run the success condition too")
    parser.add_argument(
        "--sandbox", metavar="KIND", help="kind of sandbox (default: the kind that the run used)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rerun the result and return the exit status. Raises UserError and SandboxUnavailable."""
    from pytest_shelleval.sandboxes.registry import provide

    found = find_recorded(args.results, args.task_id)
    sandbox_spec = _sandbox_spec(found, args.sandbox)
    provider = provide(sandbox_spec)
    execution = _execution(found, provider)
    try:
        return _reproduce(found, execution, check=args.check)
    except SandboxError as error:
        raise SandboxUnavailable(str(error)) from error
    finally:
        execution.release()
        provider.close()


def _reproduce(found: Recorded, execution: Execution, *, check: bool) -> int:
    try:
        execution.prepare()
        failed = ""
    except SetupFailed as error:
        failed = str(error)
    attempt = execution.attempt
    assert attempt is not None
    _say(_head(found, execution.result.sandbox, execution.task))
    _say(output_lines(execution.result.setup_output))
    if failed:
        _say([f"{'':11}{failed}"])
    elif found.record.get("generated_command") is None:
        _say(["command    there is none: " + str(found.record.get("error") or "no reply")])
    else:
        _run_command(found.record, attempt)
        if check:
            _check(found.record, attempt)
    _look_round(attempt, session=not (execution.result.exited or execution.result.timed_out))
    return 0


def _run_command(record: Mapping[str, Any], attempt: Attempt) -> None:
    _say(block("command", str(record["generated_command"]), "$ "))
    _say(_ended(attempt.run_command(), record.get("command_exit_code")))


def _check(record: Mapping[str, Any], attempt: Attempt) -> None:
    _say(block("condition", str(record["success_condition"]), "$ "))
    done = attempt.check()
    _say(_ended(done, record.get("test_exit_code")))
    _say([f"{'':11}the condition is {'met' if done.exit_code == 0 else 'not met'}"])


def _ended(done: ExecResult, recorded: int | None) -> Iterator[str]:
    now = "none: it timed out" if done.timed_out else str(done.exit_code)
    then = "as recorded" if done.exit_code == recorded else f"recorded: {recorded}"
    yield f"{'':11}exit code {now} ({then})" + (
        f"; over the limit on {done.limit}" if done.limit else ""
    )
    yield from output_lines(done.output, truncated=done.truncated, whole=True)


def _head(found: Recorded, sandbox: Mapping[str, Any], task: Task) -> Iterator[str]:
    record = found.record
    more = f" ({found.others} more of this name)" if found.others else ""
    yield f"result     {visible(found.name)}: {record.get('status') or 'recorded'}{more}"
    where = [str(sandbox.get(name)) for name in ("kind", "image", "rootfs") if sandbox.get(name)]
    yield f"sandbox    {' '.join(where)}, steps {task.steps}"
    if not found.settings:
        yield f"{'':11}no summary.json: using the default limits and times"
    yield from block("task", task.task, "")
    yield from block("setup", "\n".join(task.setup_commands), "$ ")


def _say(lines: Any) -> None:
    for line in lines:
        print(inert(line), flush=True)


# -- what was recorded --------------------------------------------------------------------------


def _execution(found: Recorded, provider: Any) -> Execution:
    from pytest_shelleval.core.commands import Command
    from pytest_shelleval.core.tasks import Task

    record, settings = found.record, found.settings
    command = Command.from_record(record, found.name)
    default = ExecutionPolicy()
    policy = ExecutionPolicy(
        strict_setup=bool(settings.get("strict_setup", default.strict_setup)),
        command_timeout=float(settings.get("command_timeout", default.command_timeout)),
        setup_timeout=float(settings.get("setup_timeout", default.setup_timeout)),
    )
    timeout = record.get("timeout")
    shared = (record.get("steps") or settings.get("steps")) == "shared"
    task = Task(
        task_id=command.task_id,
        task=command.task,
        setup_commands=tuple(command.setup_commands),
        success_condition=command.success_condition,
        timeout=float(timeout) if isinstance(timeout, (int, float)) else None,
        steps="shared" if shared else "separate",
    )
    return Execution(task, command, provider, policy)


def _known_kind(recorded: str) -> str:
    """The kind of sandbox that a result names, or local if no such kind is installed here."""
    from pytest_shelleval.sandboxes.registry import parse_kind

    try:
        return parse_kind(recorded)
    except ValueError:
        return "local"


def _sandbox_spec(found: Recorded, kind: str | None) -> SandboxSpec:
    """The run's sandboxes, or *kind*, after a check that they work. Raises SandboxUnavailable."""
    from dataclasses import replace

    from pytest_shelleval.sandboxes.base import Limits, SandboxSpec
    from pytest_shelleval.sandboxes.defaults import DEFAULT_IMAGE
    from pytest_shelleval.sandboxes.registry import check

    settings, sandbox = found.settings, found.record.get("sandbox") or {}
    default = Limits()
    limits = Limits(
        memory=settings.get("memory", default.memory),
        disk=settings.get("disk", default.disk),
        processes=settings.get("processes", default.processes),
        output=settings.get("output_limit", default.output),
    )
    rootfs = sandbox.get("rootfs") or settings.get("rootfs") or "host"
    image = sandbox.get("image") or settings.get("sandbox_image")
    recorded = sandbox.get("kind") or settings.get("sandbox") or "local"
    sandbox_spec = SandboxSpec(
        kind=kind or _known_kind(recorded),
        limits=limits,
        image=image or DEFAULT_IMAGE,
        pool_size=0,
        rootfs=None if rootfs == "host" else Path(rootfs),
        network=bool(settings.get("network")),
        sos_urls=[sandbox["url"]] if sandbox.get("url") else settings.get("sos_url") or [],
        sos_named=recorded == "sos",
        sos_token=os.environ.get("SHELLEVAL_SOS_TOKEN"),
    )
    try:
        return replace(sandbox_spec, kind=check(sandbox_spec))
    except SandboxUnavailable as error:
        if kind is not None or sandbox_spec.kind == "local":
            raise
        raise SandboxUnavailable(
            f"the run used {recorded} sandboxes: {error}\n--sandbox=local uses one on this machine"
        ) from error


# -- the shell ----------------------------------------------------------------------------------


def _look_round(attempt: Attempt, *, session: bool) -> None:
    from pytest_shelleval.sandboxes.shell import Shell

    shell = Shell(attempt.sandbox, session=session)
    if sys.stdin.isatty():
        import readline  # noqa: F401 - makes input() edit lines

        print("\nA shell in the sandbox, to look round. exit or Ctrl-D removes the sandbox.")
    if not session:
        print("(The command's shell has ended: every line runs in a fresh one.)")
    for text in _texts():
        done = shell.run(text)
        shown = inert(visible(done.output))
        print(shown, end="" if shown.endswith("\n") or not shown else "\n")
        if done.timed_out:
            print("(timed out)")
        elif done.exit_code:
            print(f"(exit code {done.exit_code})")
        if done.exited or done.timed_out:
            print("(The shell has ended: every line runs in a fresh one now.)")


def _texts() -> Iterator[str]:
    """The commands typed until EOF or ``exit``; several lines where bash would continue."""
    from pytest_shelleval.core.syntax import unfinished

    text = ""
    while True:
        try:
            line = _line("> " if text else "sandbox$ ")
        except KeyboardInterrupt:
            print()
            text = ""
            continue
        if line is None or (not text and line.split()[:1] in (["exit"], ["logout"])):
            break
        text += line
        if not unfinished(text):
            if text.strip():
                yield text
            text = ""
        else:
            text += "\n"
    if text.strip():
        yield text


def _line(prompt: str) -> str | None:
    """The next line; None at the end."""
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    try:
        return input(prompt)
    except EOFError:
        print()
        return None
