"""Parameters that a server refuses: left out or renamed once, asked for as before."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.models.inference import InferenceSummary, run_inference
from pytest_shelleval.models.refusals import Refusals

from .chat_server import Answer, ChatServer, completion, error
from .test_chat import ask
from .test_inference import chat, lines, plan, tasks

REFUSALS = {
    "temperature": (
        "Unsupported value: 'temperature' does not support 0.6. Only the default (1) is supported.",
        "unsupported_value",
    ),
    "max_tokens": (
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        "unsupported_parameter",
    ),
    "top_k": ("Unrecognized request argument supplied: top_k", None),
}


def refuse(name: str) -> Answer:
    message, code = REFUSALS[name]
    return error(400, message, code=code)


def picky(*names: str) -> Any:
    """A server that refuses *names*, one at a time."""

    def answer(request: dict[str, Any]) -> Answer:
        return next((refuse(name) for name in names if name in request), completion())

    return answer


def test_what_is_refused_is_mended_once_and_the_key_stays(
    server: ChatServer, store: CommandStore
) -> None:
    server.answer = picky(*REFUSALS)
    asked = {"temperature": 0.6, "max_tokens": 50, "top_k": 3, "top_p": 0.9}
    summary = InferenceSummary()
    wanted = plan(store, tasks(20), chat(server), params=asked)
    run_inference(wanted, store, concurrency=1, summary=summary)
    assert len(server.requests) == 20 + 3
    sent = {"max_completion_tokens": 50, "top_p": 0.9}
    for request in server.requests[3:]:
        assert {k: v for k, v in request.items() if k not in ("path", "model", "messages")} == sent
    for record in lines(store):
        assert (record["params"], record["sent_params"]) == (asked, sent)
        assert record["generated_command"] == "ls -l"
    assert len(summary.warnings) == 3
    assert "m: the server does not take temperature=0.6: left out" in summary.warnings[0]
    assert "sent as max_completion_tokens" in summary.warnings[1]
    assert not plan(store, tasks(20), chat(server), params=asked).jobs


def test_a_crowd_learns_together(server: ChatServer, store: CommandStore) -> None:
    server.answer = picky(*REFUSALS)
    summary = InferenceSummary()
    asked = {"temperature": 0.6, "max_tokens": 50, "top_k": 3}
    run_inference(
        plan(store, tasks(30), chat(server), params=asked), store, concurrency=8, summary=summary
    )
    assert summary.failed == 0
    assert len(summary.warnings) == 3


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"max_tokens": 50}, {}),  # neither name is taken
        ({"max_completion_tokens": 50}, {}),
        ({"max_tokens": 50, "max_completion_tokens": 60}, {}),
    ],
)
def test_no_name_is_tried_twice(
    server: ChatServer, asked: dict[str, int], sent: dict[str, int]
) -> None:
    def answer(request: dict[str, Any]) -> Answer:
        names = [name for name in ("max_tokens", "max_completion_tokens") if name in request]
        if not names or len(server.requests) > 9:
            return completion()
        return error(400, f"Unsupported parameter: '{names[0]}'")

    server.answer = answer
    reply = ask(server.url, params=asked)
    assert (reply.attempts, reply.sent_params) == (3, sent)


@pytest.mark.parametrize(
    ("name", "sent"),
    [("max_tokens", {"max_completion_tokens": 50, "top_k": 3}), ("top_k", {"max_tokens": 50})],
)
def test_what_was_sent_is_told_whatever_was_refused(
    server: ChatServer, name: str, sent: dict[str, int]
) -> None:
    server.answer = picky(name)
    assert ask(server.url, params={"max_tokens": 50, "top_k": 3}).sent_params == sent


def test_nothing_is_told_where_nothing_was_refused(server: ChatServer) -> None:
    assert ask(server.url, params={"max_tokens": 50, "top_k": None}).sent_params is None


def test_a_name_is_not_put_in_place_of_another_that_was_given(server: ChatServer) -> None:
    server.answer = picky("max_tokens")
    reply = ask(server.url, params={"max_completion_tokens": 60, "max_tokens": 50})
    assert reply.sent_params == {"max_completion_tokens": 60}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"error": {"message": "not supported", "param": "temperature"}}, "temperature"),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "x"}]}, "top_k"),
        ({"message": "[{'type': 'extra_forbidden', 'loc': ('body', 'min_p')}]"}, "min_p"),
        ({"error": "unknown field `min_p`"}, "min_p"),
    ],
)
def test_how_servers_say_it(body: dict[str, Any], name: str) -> None:
    params = {"temperature": 1, "top_k": 2, "min_p": 0.1}
    refusals = Refusals(lambda line: None)
    assert refusals.learn(body, str(body), params, params)
    assert name not in refusals.apply(params)
    assert len(refusals.apply(params)) == 2


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens is too large: 2000. This model has at most 1000 completion tokens",
        "temperature must be between 0 and 2",
        "This model's maximum context length is 4096 tokens",
        "Unsupported content in messages",
    ],
)
def test_what_is_wrong_otherwise_stays_the_users_to_mend(said: str) -> None:
    params = {"temperature": 3, "max_tokens": 2000}
    refusals = Refusals(lambda line: None)
    assert not refusals.learn({"error": {"message": said}}, said, params, params)
    assert refusals.apply(params) == params


@pytest.mark.parametrize(
    ("refused", "kinds", "said"),
    [
        ((), ["json_schema"], ""),
        (("json_schema",), ["json_schema", "json_object"], "asking for any JSON object"),
        (
            ("json_schema", "json_object"),
            ["json_schema", "json_object", None],
            "asking for plain text",
        ),
    ],
)
def test_structured_falls_back_by_itself(
    server: ChatServer,
    store: CommandStore,
    refused: tuple[str, ...],
    kinds: list[str | None],
    said: str,
) -> None:
    def answer(request: dict[str, Any]) -> Answer:
        kind = request.get("response_format", {}).get("type")
        return error(400, f"response_format {kind}: no") if kind in refused else completion()

    server.answer = answer
    summary = InferenceSummary()
    wanted = plan(store, tasks(3), chat(server), params={"structured": True})
    run_inference(wanted, store, concurrency=1, summary=summary)
    asked = [request.get("response_format", {}).get("type") for request in server.requests]
    assert asked == [*kinds, kinds[-1], kinds[-1]]
    assert all("structured" not in request for request in server.requests)
    assert said in "".join(summary.warnings[-1:])
    assert len(summary.warnings) == len(kinds) - 1
    assert {json.dumps(line["params"]) for line in lines(store)} == {'{"structured": true}'}


def test_a_schema_without_the_bound_is_tried_where_only_the_bound_is_refused(
    server: ChatServer, store: CommandStore
) -> None:
    def answer(request: dict[str, Any]) -> Answer:
        bounded = "maxLength" in json.dumps(request)
        return error(400, "schema: 'maxLength' is not permitted") if bounded else completion()

    server.answer = answer
    wanted = plan(store, tasks(2), chat(server), params={"structured": True})
    run_inference(wanted, store, concurrency=1)
    assert [request["response_format"]["type"] for request in server.requests] == [
        "json_schema"
    ] * 3
