from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_shelleval.core.commands import CommandStore

from .chat_server import ChatServer


@pytest.fixture(autouse=True)
def _no_openai_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    chat = ChatServer()
    yield chat
    chat.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CommandStore]:
    commands = CommandStore(tmp_path / "commands.jsonl")
    yield commands
    commands.close()
