"""The probes of a row, each run in a sandbox of its own."""

from __future__ import annotations

import contextlib
import secrets
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_shelleval.core.attempt import MISSING_CAPABILITY
from pytest_shelleval.core.errors import SandboxError, SandboxUnavailable
from pytest_shelleval.core.execution import Execution, ExecutionPolicy, SandboxSource, SetupFailed
from pytest_shelleval.core.results import Result, empty_command
from pytest_shelleval.core.sandbox import Sandbox
from pytest_shelleval.core.tasks import Steps, Task

NOTHING = "true"
LEAVE = "exit 0"
DELETE = """case $PWD/ in
/bin/*|/boot/*|/dev/*|/etc/*|/lib*/*|/proc/*|/run/*|/sbin/*|/sys/*|/usr/*) ;;
//) for shelleval_entry in /* /.[!.]*; do
  case $shelleval_entry in
  /bin|/boot|/dev|/etc|/home|/lib*|/proc|/root|/run|/sbin|/sys|/tmp|/usr|/var) ;;
  *) rm -rf -- "$shelleval_entry" ;;
  esac
done ;;
*) (shopt -s dotglob nullglob; rm -rf -- ./*) ;;
esac >/dev/null 2>&1; true"""
"""Deletes everything in the current directory, but never the system's own directories."""

_KEPT_OUTPUT = 10_000  # characters, from the end: the last lines say why a step ended

Look = Callable[[Sandbox], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """The outcome of a setup, item by item."""

    codes: Mapping[int, int] = field(default_factory=dict)
    """Exit code of each item that ended, by its number from 1."""
    output: str = ""
    left_running: tuple[str, ...] = ()
    """Names of processes that it left running."""
    network: bool = False
    """Something in it tried to reach beyond the sandbox."""


class Prober:
    """Tries rows in the sandboxes of *source*."""

    def __init__(self, source: SandboxSource, policy: ExecutionPolicy) -> None:
        self._source = source
        self._fresh = _WithoutSnapshots(source)
        self.policy = policy

    def run(
        self,
        task: Task,
        command: str,
        *,
        steps: Steps,
        before: Look | None = None,
        after: Look | None = None,
        anew: bool = False,
    ) -> Result:
        """Run setup, *command* and condition of *task*.

        *before* inspects the sandbox between setup and command, *after* inspects it after the
        condition. With *anew* the setup runs even if a snapshot of it exists. The result reports a
        failed setup, a sandbox that failed again and again, or one that lacks what the row needs.
        Raises SandboxUnavailable if there are no sandboxes at all.
        """
        execution = Execution(
            replace(task, steps=steps),
            replace(empty_command(task, None, 0), generated_command=command),
            self._fresh if anew else self._source,
            self.policy,
        )

        def score(result: Result, sandbox: Sandbox) -> None:
            if after is not None:
                after(sandbox)

        try:
            sandbox = execution.prepare()
            if before is not None:
                with contextlib.suppress(SandboxError):  # the next step raises it again
                    before(sandbox)
            execution.run(sandbox, score=score)
        except SetupFailed:
            pass
        except SandboxError as error:
            if isinstance(error, SandboxUnavailable) and not lacking(execution.result):
                raise
            execution.result.fail_as_error("sandbox", str(error))
        finally:
            execution.release()
        return _lightened(execution.result)

    def look_at_setup(self, task: Task) -> Setup | None:
        """Run only the setup; return how each item ended and which processes it left running.

        None if the sandbox failed. Raises SandboxUnavailable.
        """
        try:
            sandbox = self._source.acquire()
        except SandboxUnavailable:
            raise
        except SandboxError:
            return None
        try:
            return self._setup(sandbox, task)
        except SandboxError:
            return None
        finally:
            sandbox.close()

    def _setup(self, sandbox: Sandbox, task: Task) -> Setup:
        nonce = secrets.token_hex(8)
        lines = []
        for number, item in enumerate(task.setup_commands, 1):
            # print the code at once: the next item may leave the shell
            lines.append(f"eval {shlex.quote(item)}")
            lines.append(f"printf '\\n%s %d %d\\n' {nonce} {number} $?")
        done = sandbox.exec("\n".join(lines), timeout=self.policy.setup_timeout)
        codes: dict[int, int] = {}
        kept = []
        for line in done.output.split("\n"):
            mark, _, rest = line.partition(" ")
            if mark == nonce:
                which, code = rest.split()
                codes[int(which)] = int(code)
            else:
                kept.append(line)
        ended = len(codes) + 1
        if done.exit_code is not None and ended <= len(task.setup_commands):
            codes[ended] = done.exit_code  # this item left the shell
        effects: Mapping[str, Any] = getattr(sandbox, "effects", dict)()
        traffic = effects.get("network") or {}
        return Setup(
            codes, "\n".join(kept), tuple(effects.get("processes", ())), any(traffic.values())
        )


def _lightened(result: Result) -> Result:
    """*result* without what no judgement needs, to save memory in a large dataset."""
    result.trajectory.clear()
    for name in ("setup_output", "command_output", "test_output"):
        text = getattr(result, name)
        if text is not None and len(text) > _KEPT_OUTPUT:
            setattr(result, name, text[-_KEPT_OUTPUT:])
    return result


def lacking(result: Result) -> bool:
    """Whether *result* says that this kind of sandbox lacks a capability that the row needs."""
    return any(said in (result.error or "") for said in MISSING_CAPABILITY.values())


class _WithoutSnapshots:
    """A source without snapshots, so that setups always run."""

    def __init__(self, source: SandboxSource) -> None:
        self._source = source

    def acquire(self) -> Sandbox:
        return self._source.acquire()


def unreadable(sandbox: Sandbox, texts: Sequence[str], timeout: float) -> dict[int, str]:
    """The syntax error of ``bash -n`` for each of *texts* that bash can't parse, by position.

    Raises SandboxError.
    """
    nonce = secrets.token_hex(8)
    lines = [f"shelleval_check() {{ bash $2 -n || printf '\\n%s %d\\n' {nonce} $1; }}"]
    for number, text in enumerate(texts):
        # a text turns on this shell option itself when it runs, which bash -n does not see
        option = "'-O extglob'" if "extglob" in text else ""
        mark = f"shelleval_{nonce}_{number}"
        lines.append(f"shelleval_check {number} {option} <<'{mark}' 2>&1\n{text}\n{mark}")
    done = sandbox.exec("\n".join(lines), timeout=timeout)
    found: dict[int, str] = {}
    said: list[str] = []
    for line in done.output.split("\n"):
        mark, _, rest = line.partition(" ")
        if mark != nonce:
            said.append(line)
            continue
        found[int(rest)] = next((each for each in said if "syntax error" in each), said[0])
        said = []
    return found


def existing(sandbox: Sandbox, paths: Sequence[str], timeout: float) -> set[str]:
    """Those of *paths* that exist. Raises SandboxError."""
    tests = [f"[ -e {shlex.quote(path)} ] && echo {number}" for number, path in enumerate(paths)]
    done = sandbox.exec("\n".join(tests), timeout=timeout)
    return {paths[int(line)] for line in done.output.split()}


def names_in(sandbox: Sandbox, directory: str, timeout: float) -> tuple[str, ...]:
    """The names in *directory*, sorted; empty if it can't be entered. Raises SandboxError."""
    done = sandbox.exec(
        "shopt -s dotglob nullglob; printf '%s\\n' *", timeout=timeout, cwd=directory
    )
    return tuple(filter(None, done.output.split("\n"))) if done.exit_code == 0 else ()


def hollow_command(effects: Mapping[str, Any] | None) -> str:
    """A command that creates the same files as a gold command, but empty.

    An empty string if the gold command created no file with content, or too many to list.
    """
    created = (effects or {}).get("created", [])
    if (effects or {}).get("more", {}).get("created") or (effects or {}).get("partial"):
        return ""
    if not any(entry["kind"] == "file" and entry["size"] for entry in created):
        return ""
    lines = []
    for entry in created:
        path = shlex.quote(entry["path"])
        if entry["kind"] == "directory":
            lines.append(f"mkdir -p {path}")
        elif entry["kind"] == "file":
            lines.append(f": > {path}")
    return "\n".join([*lines, "true"])
