"""The contract of a model: it gets a request for a command and returns a reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, runtime_checkable

from pytest_shelleval.core.errors import GenerationError
from pytest_shelleval.core.tasks import Task

if TYPE_CHECKING:
    from pytest_shelleval.models.money import Account


class Message(TypedDict):
    """One chat message, as in OpenAI's chat completions."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: one sample of one task."""

    task: Task
    messages: Sequence[Message]
    """The rendered prompt."""
    sample: int = 0
    """0 to samples - 1."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Sampling parameters (``temperature``, ``max_tokens``); None leaves a field out."""
    account: Account | None = None
    """For a model that retries its requests: counts the cost of each attempt."""


@dataclass(slots=True)
class Reply:
    """What a model answered."""

    text: str
    """The raw text; kept in commands.jsonl, and the command is extracted from it."""
    command: str | None = None
    """The command itself, from a model that knows it (oracle, the user's code) or from a tool call;
    skips extraction."""
    reasoning: str | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = None
    """``input_tokens`` and ``output_tokens``, and any other counts of the server."""
    attempts: int = 1
    """Requests made until this reply came."""
    sent_params: dict[str, Any] | None = None
    """The parameters that were sent, if the server did not accept the requested ones."""
    request_id: str | None = None
    """The server's id of the request (``x-request-id``), if it sends one; for debug.log."""


class ServerFault(GenerationError):  # noqa: N818 - says whose fault it is
    """A failure that is likely to hit every other request too, with the same ``reason``.

    A model may raise it in place of GenerationError: after enough equal faults in a row, the phase
    is aborted with the reason instead of failing thousands of times. ``unreachable`` says that no
    connection was made.
    """

    def __init__(self, reason: str, *, attempts: int = 1, unreachable: bool = False) -> None:
        super().__init__(reason, attempts=attempts)
        self.unreachable = unreachable


@runtime_checkable
class Model(Protocol):
    """Writes commands. One async method; an optional ``async def aclose(self)`` is awaited at the end.

    ``name`` goes into records. A model with the attribute ``free = True`` costs nothing and is
    deterministic (mock, oracle, noop): it is asked again in every run. The lines of an optional list
    ``warnings`` are shown at the end of the phase.
    """

    @property
    def name(self) -> str:
        """The model's name in records and reports."""
        ...

    async def generate(self, request: Request) -> Reply | str:
        """Answer *request*; a plain string is used as the reply's text.

        Raises GenerationError for a failure of this one request; any other exception is recorded in
        the same way. InferenceAborted ends the phase.
        """
        ...
