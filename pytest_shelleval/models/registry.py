"""Builds the model of a given name."""

from __future__ import annotations

from pytest_shelleval.models.base import Model

BUILT_IN = frozenset({"mock", "oracle", "noop"})
"""Names of models that need no server."""


def build_model(
    name: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float = 120.0,
    max_retries: int = 5,
    rpm: int | None = None,
    tpm: int | None = None,
    max_wait: float = 300.0,
) -> Model:
    """The model called *name*: ``mock``, ``oracle``, ``noop``, or the server's model of that name.

    *timeout* is seconds per request; *rpm* and *tpm* bound requests and tokens per minute; a server
    that asks to wait longer than *max_wait* seconds pauses the phase. *base_url* and *api_key*
    default to ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``. Raises UserError when these can't work.
    """
    if name == "mock":
        from pytest_shelleval.models.mock import MockModel

        return MockModel()
    if name == "oracle":
        from pytest_shelleval.models.oracle import OracleModel

        return OracleModel()
    if name == "noop":
        from pytest_shelleval.models.noop import NoopModel

        return NoopModel()
    from pytest_shelleval.models.chat import ChatModel  # imports openai, which takes a second

    return ChatModel(
        name,
        base_url=base_url,
        api_key=api_key,
        timeout=timeout,
        max_retries=max_retries,
        rpm=rpm,
        tpm=tpm,
        max_wait=max_wait,
    )
