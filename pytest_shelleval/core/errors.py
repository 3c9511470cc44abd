"""The exceptions that cross the project's layers, each with a message for the person at the keyboard."""

from __future__ import annotations

from pytest_shelleval.core.redaction import redacted


class ShellevalError(Exception):
    """Base of all errors that this project raises on purpose; they quote no secret."""

    def __init__(self, message: object = "") -> None:
        super().__init__(redacted(str(message)))


class UserError(ShellevalError):
    """Something that the user gave (a file, an option, a row) is wrong; the message says how to mend it."""


class GenerationError(ShellevalError):
    """A model gave no usable command for one task; becomes an error record, never stops a run.

    ``reason`` is one line for the record's ``error`` field. ``attempts`` counts requests made.
    """

    def __init__(self, reason: str, *, attempts: int = 1) -> None:
        super().__init__(reason)
        self.reason = str(self)
        self.attempts = attempts


class InferenceAborted(ShellevalError):  # noqa: N818 - says what happened to the phase
    """Phase 1 as a whole can't go on (no key, dead server); what was bought is kept."""


class InferencePaused(InferenceAborted):
    """Phase 1 stops here on purpose (budget, daily quota) and can go on later.

    Requests in flight are waited for, since they are paid for.
    """


class SandboxError(ShellevalError):
    """The sandbox failed, not the command in it: an infrastructure fault, tried again elsewhere."""


class SandboxUnavailable(SandboxError):  # noqa: N818 - a state, named as users say it
    """This kind of sandbox can't work on this machine; the message says why and what to type."""
