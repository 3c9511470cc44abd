"""What is registered as secret is in no message."""

from __future__ import annotations

import pytest

from pytest_shelleval.core import redaction
from pytest_shelleval.core.errors import GenerationError, SandboxError, UserError
from pytest_shelleval.core.redaction import hide, passwords_in, redacted

KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def nothing_hidden_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_secrets", {})
    monkeypatch.setattr(redaction, "_pattern", None)


def test_errors_quote_no_secret() -> None:
    assert str(UserError(f"bad {KEY}")) == f"bad {KEY}"  # nobody has said that it is one
    hide([KEY, None, ""])
    for kind in (UserError, SandboxError, GenerationError):
        assert str(kind(f"bad {KEY}, {KEY}!")) == "bad ***, ***!"
    assert GenerationError(f"bad {KEY}").reason == "bad ***"


def test_the_longer_of_two_that_overlap_goes_whole() -> None:
    hide([KEY, KEY + "-and-more"])
    assert redacted(f"{KEY}-and-more {KEY}") == "*** ***"


def test_words_that_stand_in_for_a_key_stay() -> None:
    hide(["EMPTY", "no-key", "test"])
    assert redacted("EMPTY no-key test") == "EMPTY no-key test"


def test_passwords_of_addresses() -> None:
    found = passwords_in(["http://me:p%40ssword1@host/v1", "http://host", None, "http://[bad"])
    assert found == ["p%40ssword1", "p@ssword1"]
