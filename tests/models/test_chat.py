"""The chat model against a real server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest

from pytest_shelleval.core.errors import (
    GenerationError,
    InferenceAborted,
    InferencePaused,
    UserError,
)
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Message, Reply, Request, ServerFault
from pytest_shelleval.models.chat import ChatModel
from pytest_shelleval.models.registry import build_model

from .chat_server import COMMAND, Answer, ChatServer, closed_port, completion, error

TASK = Task("t", "List files", (), "true")


def ask(url: str, *, params: dict[str, Any] | None = None, times: int = 1, **options: Any) -> Reply:
    """Ask a model at *url*; the last of *times* replies."""
    model = ChatModel("m", base_url=url, **{"backoff": 0.001, "timeout": 20.0, **options})

    async def main() -> Reply:
        try:
            for _ in range(times):
                reply = await model.generate(
                    Request(TASK, [Message(role="user", content="List files")], 0, params or {})
                )
            return reply
        finally:
            await model.aclose()

    return asyncio.run(main())


def test_a_reply(server: ChatServer) -> None:
    reply = ask(server.url, params={"temperature": 0.6, "max_tokens": 50})
    assert (reply.text, reply.finish_reason, reply.attempts) == (COMMAND, "stop", 1)
    assert reply.usage == {"input_tokens": 7, "output_tokens": 5}
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["model"] == "m"
    assert request["messages"] == [{"role": "user", "content": "List files"}]
    assert (request["temperature"], request["max_tokens"]) == (0.6, 50)


def test_parameters_that_are_none_are_left_out_and_unknown_ones_sent(server: ChatServer) -> None:
    ask(server.url, params={"temperature": None, "max_tokens": None, "top_k": 3})
    assert "temperature" not in server.requests[0]
    assert "max_tokens" not in server.requests[0]
    assert server.requests[0]["top_k"] == 3


def provider_error(content: str) -> Answer:
    """A choice as OpenRouter gives it where the provider behind it has failed."""
    answer = json.loads(completion(content, finish="error").body)
    answer["choices"][0]["error"] = {"code": 502, "message": "Provider returned error"}
    return Answer(body=json.dumps(answer))


def test_a_providers_fault_is_told(server: ChatServer) -> None:
    server.then = provider_error("")
    with pytest.raises(ServerFault, match="answered with an error: Provider returned error"):
        ask(server.url, max_retries=1)


@pytest.mark.parametrize(
    "trouble",
    [
        error(429, "slow down"),
        error(429, "slow down", retry_after="0"),
        error(429, "slow down", retry_after_ms="1"),
        error(429, "slow down", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
        error(429, "slow down", retry_after="soon"),
        error(408),
        error(409),
        error(500),
        error(502),
        error(503, "loading"),
        error(504),
        Answer(status=500, body="<html>oops</html>", kind="text/html"),
        Answer(reset=True),
        Answer(body='{"id": "x", "choices": [{"mess'),
        Answer(body=""),
        Answer(body="<html>hello</html>", kind="text/html"),
        Answer(body='{"error": {"message": "upstream is busy", "code": 502}}'),
        Answer(body='{"id": "x", "choices": []}'),
        Answer(body='{"id": "x", "choices": null}'),
        Answer(body="[]"),
        Answer(body="[" * 100_000),
        provider_error(content=""),
        provider_error(content='{"command":"rm -r'),
        completion(COMMAND, finish="error"),
        completion("", error={"message": "upstream failed", "code": 502}),
        completion(None, message={"error": {"message": "upstream failed"}}),
    ],
    ids=lambda answer: f"{answer.status}-{answer.body[:12]!r}-{dict(answer.headers)}",
)
def test_passing_trouble_is_sat_out(server: ChatServer, trouble: Answer) -> None:
    server.script = [trouble, trouble]
    reply = ask(server.url)
    assert (reply.text, reply.attempts) == (COMMAND, 3)
    assert len(server.requests) == 3


def test_retries_end(server: ChatServer) -> None:
    server.then = error(500, "kaput")
    with pytest.raises(ServerFault, match=r"answered 500: kaput \(3 attempts\)") as caught:
        ask(server.url, max_retries=2)
    assert caught.value.attempts == 3
    assert len(server.requests) == 3


def test_lost_connections_are_tried_as_often_as_other_trouble(server: ChatServer) -> None:
    server.script = [Answer(reset=True)] * 5
    assert ask(server.url).attempts == 6


@pytest.mark.parametrize("first", [completion(), Answer(reset=True)], ids=["reply", "lost"])
def test_a_server_that_was_there_is_given_time_to_come_back(
    server: ChatServer, first: Answer
) -> None:
    server.then = first
    model = ChatModel("m", base_url=server.url, backoff=0.001, max_retries=5)
    request = Request(TASK, [Message(role="user", content="x")])

    async def main() -> GenerationError:
        try:
            with contextlib.suppress(GenerationError):
                await model.generate(request)
            server.close()
            await model.aclose()  # no connection of before is left
            with pytest.raises(ServerFault, match="can't connect") as caught:
                await model.generate(request)
            return caught.value
        finally:
            await model.aclose()

    assert asyncio.run(main()).attempts == 6


def test_refused_parameters_use_up_no_retry(server: ChatServer) -> None:
    names = ("temperature", "top_k", "min_p")
    refusals = [error(400, f"Unsupported parameter: '{name}'") for name in names]
    server.script = [*refusals, error(500), error(500)]
    reply = ask(server.url, max_retries=2, params=dict.fromkeys(names, 1))
    assert reply.attempts == len(server.requests) == 6


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_refused_is_not_repeated(server: ChatServer, status: int) -> None:
    server.then = error(status, "Unsupported value: 'temperature'\nuse 1")
    with pytest.raises(GenerationError, match="Unsupported value: 'temperature' use 1"):
        ask(server.url)
    assert len(server.requests) == 1


def test_a_spent_quota_is_not_asked_again(server: ChatServer) -> None:
    server.then = error(429, "You exceeded your current quota", code="insufficient_quota")
    with pytest.raises(ServerFault, match="exceeded your current quota"):
        ask(server.url)
    assert len(server.requests) == 1


def test_a_wait_that_is_too_long_is_not_waited(server: ChatServer) -> None:
    server.then = error(429, "later", retry_after="3600")
    with pytest.raises(
        InferencePaused, match="asks to wait 3600 s, longer than --shelleval-max-wait=300"
    ):
        ask(server.url)
    assert len(server.requests) == 1


def test_milliseconds_are_read_as_such_and_go_before_seconds(server: ChatServer) -> None:
    server.then = error(429, "later", retry_after_ms="400500", retry_after="900")
    with pytest.raises(InferencePaused, match=r"asks to wait 400 s, longer than .*=300"):
        ask(server.url)


@pytest.mark.parametrize(
    ("status", "mended_by"),
    [
        (401, "OPENAI_API_KEY"),
        (402, "add credit"),
        (403, "API key"),
        (404, "shelleval-model"),
        (405, "shelleval-base-url"),
        (410, "shelleval-model"),
    ],
)
def test_what_meets_every_request_ends_the_phase(
    server: ChatServer, status: int, mended_by: str
) -> None:
    server.then = error(status, "wrong key sk-123456")
    with pytest.raises(InferenceAborted, match=mended_by) as caught:
        ask(server.url, api_key="sk-123456")
    assert len(server.requests) == 1
    message = str(caught.value)
    assert server.url in message
    assert "sk-123456" not in message
    assert "\n" not in message


@pytest.mark.parametrize("key", ["abc-123456", "xyz-123456"])
def test_no_key_is_quoted_whatever_it_looks_like(server: ChatServer, key: str) -> None:
    server.then = error(400, f"bad key {key}")
    with pytest.raises(GenerationError, match="bad key") as caught:
        ask(server.url, api_key=key)
    assert key not in str(caught.value)


def test_a_late_403_concerns_one_request(server: ChatServer) -> None:
    server.script = [completion(), error(403, "flagged")]
    with pytest.raises(GenerationError, match="flagged"):
        ask(server.url, times=2)


@pytest.mark.parametrize("slow", [Answer(delay=3), Answer(body=" " * 60, drip=0.05)])
def test_a_slow_answer_times_out(server: ChatServer, slow: Answer) -> None:
    server.then = slow
    with pytest.raises(ServerFault, match=r"no answer from .* within 0\.3 s \(2 attempts\)"):
        ask(server.url, timeout=0.3, max_retries=1)
    assert len(server.requests) == 2


def test_a_dead_port_is_found_out_soon() -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    with pytest.raises(ServerFault, match=url) as caught:
        ask(url)
    assert caught.value.unreachable
    assert caught.value.attempts == 3
    # the innermost cause, not the client's "Connection error."
    assert "refused" in str(caught.value) or "attempts failed" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("", ""),
        ([{"type": "text", "text": "l"}, {"type": "text", "text": "s"}], "ls"),
        ([], ""),
        (3, ""),
    ],
)
def test_odd_content(server: ChatServer, content: object, text: str) -> None:
    server.then = completion(content)
    assert ask(server.url).text == text


def test_a_refusal_is_the_text(server: ChatServer) -> None:
    server.then = completion(None, message={"refusal": "I won't."})
    assert ask(server.url).text == "I won't."


def call(arguments: object, **more: object) -> dict[str, Any]:
    function = {"name": "bash", "arguments": arguments}
    return {"id": "call_1", "type": "function", "function": function, **more}


@pytest.mark.parametrize(
    ("calls", "command"),
    [
        *[
            ([call(json.dumps({"why": "x", name: "ls -l"}))], "ls -l")
            for name in ("command", "cmd", "script", "code", "input")
        ],
        ([call({"command": "ls -l"})], "ls -l"),
        ([call('{"cmd": ["grep", "a b", "f"]}')], "grep 'a b' f"),
        ([call('{"cmd": ["ls -l"]}')], "ls -l"),
        ([call('{"cmd": ["mkdir a", "cd a"]}')], "mkdir a\ncd a"),
        ([call('{"command": null, "cmd": "ls -l"}')], "ls -l"),
        ([{"type": "custom", "custom": {"name": "bash", "input": "ls -l"}}], "ls -l"),
        ([call('{"command": "[your_command_here]"}')], None),
        ([call('{"code": "import os\\nprint(1)"}')], None),
        ([call('{"command": {"a": 1}}')], None),
        ([call('{"command": ["ls", 1]}')], None),
        ([call('{"path": "/"}')], None),
        ([call('["ls"]')], None),
        ([call("")], None),
        ([call(None)], None),
        ([{}], None),
        (["ls"], None),
        ({}, None),
        ([call('{"command": "mkdir a"}'), call('{"command": "ls"}')], ""),
        ([call({"command": "mkdir a"}), call({"command": "ls"})], ""),
    ],
    ids=repr,
)
@pytest.mark.parametrize("content", [None, "I will look."])
def test_a_tool_call(
    server: ChatServer, calls: object, command: str | None, content: str | None
) -> None:
    server.then = completion(content, message={"tool_calls": calls}, finish="tool_calls")
    reply = ask(server.url)
    assert (reply.command or "") == (command or "")
    if content:
        assert reply.text.startswith(content)


def test_the_text_of_a_choice(server: ChatServer) -> None:
    answer = json.loads(completion().body)
    answer["choices"] = [{"text": COMMAND, "finish_reason": "stop"}]
    server.then = Answer(body=json.dumps(answer))
    assert ask(server.url).text == COMMAND


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_kept_apart(server: ChatServer, name: str) -> None:
    server.then = completion(
        message={name: "Let me think."},
        finish="length",
        usage={
            "prompt_tokens": 9,
            "completion_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 6},
        },
    )
    reply = ask(server.url)
    assert (reply.text, reply.reasoning, reply.finish_reason) == (
        COMMAND,
        "Let me think.",
        "length",
    )
    assert reply.usage == {
        "input_tokens": 9,
        "output_tokens": 8,
        "cached_tokens": 4,
        "reasoning_tokens": 6,
    }


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}, []])
def test_usage_may_be_missing(server: ChatServer, usage: object) -> None:
    server.then = completion(usage=usage)
    assert not ask(server.url).usage


def test_the_public_endpoint_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        build_model("gpt-4o-mini")
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        build_model("gpt-4o-mini", base_url="https://api.openai.com/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert build_model("gpt-4o-mini").name == "gpt-4o-mini"


def test_a_server_of_ones_own_needs_none(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    model = build_model("m")
    assert isinstance(model, ChatModel)
    assert model.base_url == server.url
    ask(server.url)
    assert server.headers[0]["authorization"].startswith("Bearer ")
    ask(server.url, api_key=" my-key \n")
    assert server.headers[1]["authorization"] == "Bearer my-key"


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://x/", "http://", "http://[", "x"])
def test_a_base_url_that_is_none(url: str) -> None:
    with pytest.raises(UserError, match="base URL"):
        build_model("m", base_url=url)


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_query_of_a_base_url_ends_every_request(server: ChatServer, slash: str) -> None:
    query = "api-version=2024-10-21&a=b%2Bc&a=2"
    ask(f"{server.url}/deployments/d{slash}?{query}")
    (request,) = server.requests
    assert request["path"] == f"/v1/deployments/d/chat/completions?{query}"


@pytest.mark.parametrize(
    ("proxy", "said"),
    [("socks5://127.0.0.1:1", "httpx\\[socks\\]"), ("http://127.0.0.1:x", "Invalid port")],
)
def test_a_proxy_that_cannot_be_used_is_told_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    if proxy.startswith("socks") and find_spec("socksio"):
        pytest.skip("SOCKS works here")
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(UserError, match=rf"proxy that can't be used \(ALL_PROXY\): .*{said}"):
        build_model("m", base_url="http://localhost/v1")


def test_a_key_that_is_none() -> None:
    with pytest.raises(UserError, match="API key"):
        build_model("m", base_url="http://localhost/v1", api_key="schlüssel")


def test_a_crowd_gets_through_a_server_that_says_too_many(server: ChatServer) -> None:
    server.script = [error(429, retry_after="0") if n % 3 else completion() for n in range(30)]
    model = ChatModel("m", base_url=server.url, backoff=0.001, max_retries=30)
    request = Request(TASK, [Message(role="user", content="x")])

    async def main() -> list[Reply]:
        try:
            return await asyncio.gather(*(model.generate(request) for _ in range(40)))
        finally:
            await model.aclose()

    replies = asyncio.run(main())
    assert sum(reply.attempts for reply in replies) == 40 + 20


@pytest.mark.parametrize("status", [429, 503, 529])
def test_after_too_many_fewer_are_sent_at_once(server: ChatServer, status: int) -> None:
    crowd = 8
    server.gate = threading.Event()  # the first are refused together

    def answer(request: dict[str, Any]) -> Answer:
        if len(server.requests) == crowd and server.gate is not None:
            server.gate.set()
        return error(status) if len(server.requests) <= crowd else replace(completion(), delay=0.05)

    server.answer = answer
    model = ChatModel("m", base_url=server.url, max_retries=0)
    request = Request(TASK, [Message(role="user", content="x")])

    async def main() -> list[Reply | BaseException]:
        try:
            made = [model.generate(request) for _ in range(crowd)]
            refused = await asyncio.gather(*made, return_exceptions=True)
            assert [type(each) for each in refused] == [ServerFault] * crowd
            assert server.most_in_flight == crowd
            server.most_in_flight = 0
            return await asyncio.gather(*(model.generate(request) for _ in range(crowd)))
        finally:
            await model.aclose()

    assert len(asyncio.run(main())) == crowd
    # half of them; after a round without a complaint one more
    assert server.most_in_flight <= crowd / 2 + 1
