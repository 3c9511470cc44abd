"""The exceptions that cross the project's layers, each with a message for the user."""

from __future__ import annotations

from pytest_shelleval.core.redaction import redacted


class ShellevalError(Exception):
    """Base of all errors that this project raises on purpose; secrets in the message are redacted."""

    def __init__(self, message: object = "") -> None:
        super().__init__(redacted(str(message)))


class UserError(ShellevalError):
    """Invalid input from the user (a file, an option, a row); the message says how to fix it."""


class GenerationError(ShellevalError):
    """A model gave no usable command for one task; becomes an error record, never stops a run.

    ``reason`` is one line for the record's ``error`` field. ``attempts`` counts requests made.
    """

    def __init__(self, reason: str, *, attempts: int = 1) -> None:
        super().__init__(reason)
        self.reason = str(self)
        self.attempts = attempts


class InferenceAborted(ShellevalError):  # noqa: N818 - says what happened to the phase
    """Phase 1 as a whole can't go on (no key, dead server); replies already paid for are kept."""


class InferencePaused(InferenceAborted):
    """Phase 1 stops here on purpose (budget, daily quota) and can go on later.

    Requests in flight are waited for, since they are paid for.
    """


class SandboxError(ShellevalError):
    """The sandbox failed, not the command in it: an infrastructure fault, retried in another sandbox."""


class SandboxUnavailable(SandboxError):  # noqa: N818 - a state, named as users say it
    """This kind of sandbox can't work on this machine; the message says why and how to fix it."""
