"""An interactive shell in a sandbox: runs texts in its session, or as if in one."""

from __future__ import annotations

import secrets
import shlex

from pytest_shelleval.core.sandbox import ExecResult, Sandbox

_SECONDS = 3600.0


class Shell:
    """Runs one text after another in *sandbox*.

    In its session as long as that lives; after that, each text in a fresh shell that starts in the
    directory where the previous one ended.
    """

    def __init__(self, sandbox: Sandbox, *, session: bool = True) -> None:
        self._sandbox = sandbox
        self.session = session
        """Whether the sandbox's session lives."""
        self._directory: str | None = None

    def run(self, text: str) -> ExecResult:
        """Run *text*, for an hour at most. Raises SandboxError when the sandbox fails."""
        if not self.session:
            return self._fresh(text)
        done = self._sandbox.exec_session(text, timeout=_SECONDS)
        if done.exited or done.timed_out:
            self.session = False
        return done

    def _fresh(self, text: str) -> ExecResult:
        mark = secrets.token_hex(8)
        script = (
            f"eval {shlex.quote(text)}\n"
            f'{{ set -- "$?"; builtin printf "\\n{mark}%s" "$PWD"; builtin exit "$1"; }}'
        )
        where = self._directory or self._sandbox.session_directory() or None
        done = self._sandbox.exec(script, timeout=_SECONDS, cwd=where)
        output, marked, directory = done.output.rpartition(f"\n{mark}")
        if not marked:
            return done
        self._directory = directory
        return ExecResult(output, done.exit_code, truncated=done.truncated, limit=done.limit)
