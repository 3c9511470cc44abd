"""Phase 1 through its front door."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_shelleval.core.commands import Command, CommandStore
from pytest_shelleval.core.errors import GenerationError, InferenceAborted
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Model, Reply, Request, ServerFault
from pytest_shelleval.models.chat import ChatModel
from pytest_shelleval.models.extract import Extraction
from pytest_shelleval.models.inference import (
    InferenceOptions,
    InferenceSummary,
    infer,
    run_inference,
)
from pytest_shelleval.models.mock import MockModel
from pytest_shelleval.models.noop import NoopModel
from pytest_shelleval.models.oracle import OracleModel
from pytest_shelleval.models.plan import InferencePlan, plan_inference
from pytest_shelleval.models.prompt import PromptTemplate

from .chat_server import Answer, ChatServer, closed_port, completion, error


def tasks(count: int) -> list[Task]:
    return [Task(f"t{n}", f"Do thing {n}", ("true",), "test -e x") for n in range(count)]


def plan(store: CommandStore, some: list[Task], *models: Model, **changes: Any) -> InferencePlan:
    samples = changes.pop("samples", 1)
    wanted = [
        (task, model, sample) for task in some for sample in range(samples) for model in models
    ]
    options: dict[str, Any] = {
        "prompts": PromptTemplate().render,
        "params": {"temperature": 0.6},
        **changes,
    }
    return plan_inference(wanted, store=store, **options)


def chat(server: ChatServer, name: str = "m", **options: Any) -> ChatModel:
    return ChatModel(name, base_url=server.url, **{"backoff": 0.001, "timeout": 20.0, **options})


def lines(store: CommandStore) -> list[dict[str, Any]]:
    if not store.path.exists():
        return []
    return [json.loads(line) for line in store.path.read_text().splitlines()]


class Scripted:
    """A user's own model."""

    def __init__(self, *replies: object, name: str = "own") -> None:
        self.name = name
        self.replies = list(replies)
        self.closed = 0

    async def generate(self, request: Request) -> Any:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def aclose(self) -> None:
        self.closed += 1


def test_every_reply_becomes_a_whole_record(server: ChatServer, store: CommandStore) -> None:
    task = replace(tasks(1)[0], tags=("git",), timeout=5.0, steps="shared")
    summary = run_inference(plan(store, [task], chat(server)), store, concurrency=4)
    (record,) = lines(store)
    assert record["task_id"] == "t0"
    assert record["generated_command"] == "ls -l"
    assert record["setup_commands"] == ["true"]
    assert record["success_condition"] == "test -e x"
    assert record["model"] == "m"
    assert record["sample"] == 0
    assert len(record["prompt_hash"]) == 16
    assert record["raw_response"] == '{"command":"ls -l"}'
    assert record["command_from"] == "json"
    assert record["finish_reason"] == "stop"
    assert record["usage"] == {"input_tokens": 7, "output_tokens": 5}
    assert record["attempts"] == 1
    assert record["latency_s"] >= 0
    assert record["params"] == {"temperature": 0.6}
    assert (record["tags"], record["timeout"], record["steps"]) == (["git"], 5.0, "shared")
    assert "error" not in record
    stamp = datetime.fromisoformat(record["timestamp"])
    assert stamp.utcoffset() == timedelta(0)
    assert summary == InferenceSummary(1, 0, 0, 7, 5, summary.seconds)


def test_nothing_is_asked_twice(server: ChatServer, store: CommandStore) -> None:
    some = tasks(5)
    first = plan(store, some[:3], chat(server))
    run_inference(first, store, concurrency=2)
    assert len(server.requests) == 3
    again = CommandStore(store.path)
    again.load()
    second = plan(again, some + some[:1], chat(server), chat(server))
    assert (second.cached, [job.task.task_id for job in second.jobs]) == (3, ["t3", "t4"])
    summary = run_inference(second, again, concurrency=2)
    assert (summary.asked, summary.cached) == (2, 3)
    assert len(server.requests) == 5
    assert len(lines(again)) == 5


def test_another_prompt_parameter_or_sample_is_another_request(
    server: ChatServer, store: CommandStore
) -> None:
    run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    assert plan(store, tasks(1), chat(server)).jobs == []
    assert plan(store, tasks(1), chat(server), params={"temperature": 0}).jobs
    assert plan(store, tasks(1), chat(server), prompts=PromptTemplate("{task}!").render).jobs
    more = plan(store, tasks(1), chat(server), samples=3)
    assert [job.sample for job in more.jobs] == [1, 2]


def test_refresh_asks_again(server: ChatServer, store: CommandStore) -> None:
    run_inference(plan(store, tasks(2), chat(server)), store, concurrency=1)
    server.then = completion('{"command":"pwd"}')
    run_inference(plan(store, tasks(2), chat(server), refresh=True), store, concurrency=1)
    assert len(server.requests) == 4
    found = store.for_execution(tasks(1)[0], "m", 0)
    assert found is not None
    assert found.generated_command == "pwd"


def test_a_failure_is_asked_again_next_time(server: ChatServer, store: CommandStore) -> None:
    server.script = [error(400, "no")]
    first = run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    assert (first.asked, first.failed) == (1, 1)
    assert lines(store)[0]["generated_command"] is None
    assert lines(store)[0]["raw_response"] is None
    second = run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    assert (second.asked, second.failed) == (1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        completion("I'm sorry, I can't do that."),
        completion('{"cmdline": "ls"}'),
        completion('{"command":"ls /hom', finish="length"),
        completion(None, finish="content_filter"),
        completion(""),
    ],
    ids=["refused", "wrong form", "cut off", "filtered", "empty"],
)
def test_an_answer_without_a_command_is_final(
    server: ChatServer, store: CommandStore, answer: Answer
) -> None:
    server.script = [error(400), answer]
    first = run_inference(plan(store, tasks(2), chat(server)), store, concurrency=1)
    assert (first.failed, first.unanswered) == (2, 1)
    for _ in range(3):  # in later calls, each of which reads the file anew
        store = CommandStore(store.path)
        store.load()
        wanted = plan(store, tasks(2), chat(server))
        run_inference(wanted, store, concurrency=1)
        found = [store.for_execution(task, "m", 0) for task in tasks(2)]
        assert [each and each.generated_command for each in found] == ["ls -l", None]
    assert len(server.requests) == 3  # only the one that got no answer was made again
    run_inference(plan(store, tasks(2), chat(server), refresh=True), store, concurrency=1)
    assert len(server.requests) == 5
    assert not plan(store, tasks(2), chat(server)).jobs
    refreshed = store.for_execution(tasks(2)[1], "m", 0)
    assert refreshed is not None
    assert refreshed.generated_command == "ls -l"


def test_asking_five_times_does_not_lift_a_model_that_refuses(
    server: ChatServer, store: CommandStore
) -> None:
    server.script = [completion() if n % 2 else completion("I can't.") for n in range(10)]
    for _ in range(5):
        wanted = plan(store, tasks(5), chat(server, "a"), chat(server, "b"))
        run_inference(wanted, store, concurrency=1)
    found = [store.for_execution(task, model, 0) for task in tasks(5) for model in "ab"]
    assert sum(each is not None and each.generated_command is not None for each in found) == 5
    assert len(server.requests) == 10


def test_a_refresh_answered_without_a_command_replaces_the_command(
    server: ChatServer, store: CommandStore
) -> None:
    server.script = [completion(), completion("I can't.")]
    for refresh in (False, True, False):
        wanted = plan(store, tasks(1), chat(server), refresh=refresh)
        run_inference(wanted, store, concurrency=1)
    found = store.for_execution(tasks(1)[0], "m", 0)
    assert found is not None
    assert (found.generated_command, found.error) == (None, "the model declined")
    assert len(server.requests) == 2


def test_a_better_extractor_reads_kept_answers_without_asking(
    server: ChatServer, store: CommandStore
) -> None:
    def broken(text: str) -> Extraction:
        raise KeyError(text)

    def better(text: str) -> Extraction:
        return Extraction(text.removeprefix("RUN "), "mine")

    server.then = completion("RUN make it so")
    wanted = plan(store, tasks(1), chat(server))
    run_inference(wanted, store, concurrency=1, terms=InferenceOptions(extract=broken))
    for _ in range(2):
        wanted = plan(store, tasks(1), chat(server), extract=better)
        run_inference(wanted, store, concurrency=1, terms=InferenceOptions(extract=better))
    first, second = lines(store)
    assert "KeyError" in first["error"]
    assert (second["generated_command"], second["command_from"]) == ("make it so", "mine")
    assert "error" not in second
    assert len(server.requests) == 1


def test_going_back_to_an_earlier_prompt_puts_it_in_force(
    server: ChatServer, store: CommandStore
) -> None:
    other = PromptTemplate("{task}!").render
    run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    server.then = completion('{"command":"pwd"}')
    run_inference(plan(store, tasks(1), chat(server), prompts=other), store, concurrency=1)
    run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    assert len(server.requests) == 2
    found = store.for_execution(tasks(1)[0], "m", 0)
    assert found is not None
    assert found.generated_command == "ls -l"


def test_a_changed_row_reaches_the_file_without_asking_again(
    server: ChatServer, store: CommandStore
) -> None:
    run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    changed = [replace(tasks(1)[0], success_condition="test -d y")]
    run_inference(plan(store, changed, chat(server)), store, concurrency=1)
    assert len(server.requests) == 1
    assert store.tasks()[0].success_condition == "test -d y"


def test_several_models_side_by_side(server: ChatServer, store: CommandStore) -> None:
    models = [chat(server, "a"), chat(server, "b"), NoopModel()]
    run_inference(plan(store, tasks(3), *models, samples=2), store, concurrency=3)
    assert len(store) == 18
    assert sorted(store.models()) == ["a", "b", "noop"]
    assert sorted(request["model"] for request in server.requests) == ["a"] * 6 + ["b"] * 6


def test_free_models_are_asked_anew_and_do_not_swell_the_file(store: CommandStore) -> None:
    some = [replace(tasks(1)[0], gold_command="pwd"), *tasks(2)[1:]]
    for _ in range(3):
        asked = plan(store, some, MockModel(), OracleModel(), NoopModel())
        assert len(asked.jobs) == 6
        seen: list[Command] = []
        run_inference(asked, store, concurrency=4, terms=InferenceOptions(on_record=seen.append))
        assert len(seen) == 6
    assert len(lines(store)) == 6
    (failed,) = [line for line in lines(store) if line["generated_command"] is None]
    assert "gold_command" in failed["error"]


def test_concurrency_is_bounded_and_used(server: ChatServer, store: CommandStore) -> None:
    server.then = replace(completion(), delay=0.05)
    models = [chat(server, "a"), chat(server, "b")]
    run_inference(plan(store, tasks(12), *models), store, concurrency=5)
    assert server.most_in_flight == 5


def test_failures_of_every_kind_become_records(store: CommandStore) -> None:
    model = Scripted(
        GenerationError("no\nluck", attempts=4),
        RuntimeError("boom"),
        None,
        "I'm sorry, I can't.",
        Reply(text="", command="  "),
        Reply(text='{"command":"ls /hom', finish_reason="length"),
        Reply(text="ls -l /home/al", finish_reason="length"),
        Reply(text='{"command":"echo "', finish_reason="length"),
        Reply(text="", finish_reason="content_filter"),
        Reply(text="<think>hm", reasoning="hm", finish_reason="length"),
        "ls -l",
    )
    summary = run_inference(plan(store, tasks(11), model), store, concurrency=1)
    assert (summary.asked, summary.failed) == (11, 10)
    records = lines(store)
    assert [record["generated_command"] for record in records] == [None] * 10 + ["ls -l"]
    errors = [record.get("error") for record in records]
    assert errors[:4] == [
        "no luck",
        "RuntimeError: boom",
        "the model replied with NoneType, not with a Reply",
        "the model declined",
    ]
    assert all("cut off" in str(errors[n]) for n in (5, 6, 7, 9))
    assert "content filter" in str(errors[8])
    assert records[0]["attempts"] == 4
    assert model.closed == 1


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"command":"ls -l"}\n\nThis lists the fi', "ls -l"),
        ('{"command":"ls -l","why":"it lists the fi', "ls -l"),
        ('{\n "command": "ls -l",\n "explana', "ls -l"),
        ('{\n "command": "ls -l",\n "explanation"', "ls -l"),
        ('```json\n{"command":"ls -l"}\n', "ls -l"),
        ("```bash\nls -l\n```\nThis lists the fi", "ls -l"),
        ("```bash\nls -l\n```\nOr:\n```bash\nls -la /ho", "ls -l"),
        ("```\nls -l\n```\nOr, with bash:\n```bash\nls -la /ho", "ls -l"),
        ("Use `ls -l`: it lists the fi", "ls -l"),
        ("Use `ls -l`, like this:\n```\nls -la /ho", "ls -l"),
        ("Use `ls -l`, like this:\n```bash\n$ ls -la /ho", "ls -l"),
        ("ls -l\n\nThis lists the fi", "ls -l"),
        ("<think>a</think>Use `ls -l`:\n```\nls -la /ho", "ls -l"),
        ("```bash\nls -la /ho", None),
        ("Run ls:\n```bash\nls -la /ho", None),
        ("ls\n```bash\nls -la /ho", None),
        ('{"command":"ls -la /ho', None),
        ('{"command":"echo "', None),
        ("ls -la /ho", None),
    ],
)
def test_a_whole_command_in_a_reply_that_was_cut_after_it(
    server: ChatServer, store: CommandStore, text: str, command: str | None
) -> None:
    server.then = completion(text, finish="length")
    run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    (record,) = lines(store)
    assert record["generated_command"] == command
    assert ("cut off at max_tokens" in record.get("error", "")) == (command is None)


def test_a_providers_fault_is_no_answer(server: ChatServer, store: CommandStore) -> None:
    server.then = completion("", finish="error")
    model = chat(server, max_retries=0)
    summary = run_inference(plan(store, tasks(1), model), store, concurrency=1)
    assert (summary.failed, summary.unanswered) == (1, 1)
    assert "finish_reason 'error'" in lines(store)[0]["error"]
    assert lines(store)[0]["raw_response"] is None
    assert len(plan(store, tasks(1), model).jobs) == 1


@pytest.mark.parametrize(
    ("arguments", "command", "rule"),
    [
        ('{"cmd": ["ls", "-l"]}', "ls -l", "model"),
        ('{"command":"echo "a" > f"}', 'echo "a" > f', "json-repaired"),  # by the rules for text
        ("ls -l", "ls -l", "text"),
        ('{"path": "/"}', None, None),
    ],
)
def test_a_tool_call_becomes_a_record(
    server: ChatServer, store: CommandStore, arguments: str, command: str | None, rule: str | None
) -> None:
    calls = [{"type": "function", "function": {"name": "bash", "arguments": arguments}}]
    server.then = completion(None, message={"tool_calls": calls}, finish="tool_calls")
    run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    (record,) = lines(store)
    assert (record["generated_command"], record["command_from"]) == (command, rule)
    assert record["raw_response"] == arguments
    assert not plan(store, tasks(1), chat(server)).jobs


def test_of_several_tool_calls_none_is_the_answer(server: ChatServer, store: CommandStore) -> None:
    calls = [{"function": {"name": "bash", "arguments": {"command": each}}} for each in ("a", "b")]
    server.then = completion(None, message={"tool_calls": calls}, finish="tool_calls")
    run_inference(plan(store, tasks(1), chat(server)), store, concurrency=1)
    (record,) = lines(store)
    assert record["generated_command"] is None
    assert record["error"] == "the reply holds no command"
    assert json.loads(record["raw_response"]) == calls


def test_reasoning_is_kept_whichever_way_it_comes(store: CommandStore) -> None:
    model = Scripted(
        Reply(text="ls -l", reasoning="apart"),
        "<think>inside</think>ls -l",
        Reply(text="<think>inside</think>ls -l", reasoning="apart"),
        "ls -l",
    )
    run_inference(plan(store, tasks(4), model), store, concurrency=1)
    assert [line["reasoning"] for line in lines(store)] == ["apart", "inside", "apart", None]


def test_an_extractor_of_the_users_own(store: CommandStore) -> None:
    def extract(text: str) -> Extraction:
        if text == "bad":
            raise KeyError("x")
        return Extraction(text.upper(), "mine")

    model = Scripted("bad", "ls")
    run_inference(
        plan(store, tasks(2), model), store, concurrency=1, terms=InferenceOptions(extract=extract)
    )
    first, second = lines(store)
    assert "extraction failed: KeyError" in first["error"]
    assert first["raw_response"] == "bad"
    assert second["generated_command"] == "LS"


@pytest.mark.parametrize("concurrency", [1, 4, 16])
def test_a_dead_server_ends_the_phase(store: CommandStore, concurrency: int) -> None:
    url = f"http://127.0.0.1:{closed_port()}/v1"
    model = ChatModel("m", base_url=url, backoff=0.001)
    with pytest.raises(InferenceAborted, match=url):
        run_inference(plan(store, tasks(200), model), store, concurrency=concurrency)
    assert len(lines(store)) <= concurrency


def test_the_same_fault_for_everything_ends_the_phase(
    server: ChatServer, store: CommandStore
) -> None:
    server.then = error(400, "Unsupported parameter: 'max_tokens'")
    with pytest.raises(InferenceAborted, match="Unsupported parameter: 'max_tokens'"):
        run_inference(plan(store, tasks(200), chat(server)), store, concurrency=4)
    assert len(server.requests) < 20


class Together:
    """A model that gives its replies in turn, the first of them when *crowd* requests are there."""

    name = "together"

    def __init__(self, crowd: int, *replies: object) -> None:
        self.replies = list(replies)
        self.asked = 0
        self._crowd = crowd
        self._full = asyncio.Event()

    async def generate(self, request: Request) -> Any:
        self.asked += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if self.asked >= self._crowd:
            asyncio.get_running_loop().call_soon(self._full.set)  # it waits too: turns are kept
        await self._full.wait()
        if isinstance(reply, Exception):
            raise reply
        return reply


@pytest.mark.parametrize(
    ("before", "concurrency", "unreachable", "most"),
    [
        ([], 1, False, 8),
        ([], 4, True, 4),
        ([], 12, True, 8),
        (["ls"], 1, False, 16),
        (["ls"], 1, True, 16),
        (["ls"], 12, False, 24),
    ],
)
def test_so_many_equal_faults_in_a_row_end_the_phase(
    store: CommandStore, before: list[str], concurrency: int, unreachable: bool, most: int
) -> None:
    model = Together(0, *before, ServerFault("down", unreachable=unreachable))
    with pytest.raises(InferenceAborted, match="down"):
        run_inference(plan(store, tasks(90), model), store, concurrency=concurrency)
    assert [line.get("error") for line in lines(store)] == [None] * len(before) + ["down"] * most


def test_once_the_phase_has_ended_commands_are_kept_and_no_further_faults(
    store: CommandStore,
) -> None:
    down = ServerFault("down")
    model = Together(12, *[down] * 11, "ls", down)
    with pytest.raises(InferenceAborted, match="down"):
        run_inference(plan(store, tasks(90), model), store, concurrency=12)
    assert [line.get("error") for line in lines(store)] == ["down"] * 8 + [None]


def test_faults_now_and_then_do_not_end_it(server: ChatServer, store: CommandStore) -> None:
    server.script = [error(400) if n % 5 else completion() for n in range(60)]
    summary = run_inference(plan(store, tasks(60), chat(server)), store, concurrency=4)
    assert (summary.asked, summary.failed) == (60, 48)


def test_a_wrong_key_ends_the_phase_and_keeps_what_came(
    server: ChatServer, store: CommandStore
) -> None:
    server.script = [completion(), completion()]
    server.then = error(401, "bad key")
    with pytest.raises(InferenceAborted, match="401"):
        run_inference(plan(store, tasks(50), chat(server)), store, concurrency=1)
    assert [line["generated_command"] for line in lines(store)] == ["ls -l", "ls -l"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_exception_of_the_caller_keeps_what_came(
    server: ChatServer, store: CommandStore, kind: type[BaseException]
) -> None:
    def on_record(command: Command) -> None:
        if len(lines(store)) == 3:
            raise kind

    model = Scripted("ls")
    with pytest.raises(kind):
        run_inference(
            plan(store, tasks(9), model),
            store,
            concurrency=1,
            terms=InferenceOptions(on_record=on_record),
        )
    assert len(lines(store)) == 3
    assert model.closed == 1


def test_cancelling_keeps_what_came_and_closes_the_models(
    server: ChatServer, store: CommandStore
) -> None:
    arrived = threading.Event()

    def answer(request: dict[str, Any]) -> Answer:
        late = "thing 1\n" not in request["messages"][0]["content"]
        return replace(completion(), delay=20 if late else 0)

    server.answer = answer
    model = chat(server)

    async def main() -> None:
        running = asyncio.ensure_future(
            infer(
                plan(store, tasks(4), model),
                store,
                concurrency=4,
                terms=InferenceOptions(on_record=lambda _: arrived.set()),
            )
        )
        while not arrived.is_set():
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert [line["task_id"] for line in lines(store)] == ["t1"]
    assert model._lanes == []


def test_ctrl_c_ends_it_at_once_and_keeps_what_came(server: ChatServer, tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> Answer:
        late = "thing 1\n" not in request["messages"][0]["content"]
        return replace(completion(), delay=30 if late else 0)

    server.answer = answer
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from pytest_shelleval.core.commands import CommandStore
        from pytest_shelleval.core.tasks import Task
        from pytest_shelleval.models.inference import InferenceOptions, run_inference
        from pytest_shelleval.models.plan import plan_inference
        from pytest_shelleval.models.prompt import PromptTemplate
        from pytest_shelleval.models.registry import build_model

        store = CommandStore(Path(sys.argv[1]))
        tasks = [Task(f"t{n}", f"Do thing {n}", (), "true") for n in range(4)]
        model = build_model("m", base_url=sys.argv[2])
        plan = plan_inference(
            [(task, model, 0) for task in tasks],
            prompts=PromptTemplate().render, params={}, store=store,
        )
        try:
            terms = InferenceOptions(on_record=lambda c: print("got", flush=True))
            run_inference(plan, store, concurrency=4, terms=terms)
        except KeyboardInterrupt:
            print("interrupted", len(store))
        """
    )
    path = tmp_path / "commands.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-W", "always::ResourceWarning", "-c", script, str(path), server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "got\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=15)
    assert out == "interrupted 1\n"
    assert err == ""
    assert len(path.read_text().splitlines()) == 1


def test_it_works_inside_a_running_event_loop(store: CommandStore) -> None:
    async def main() -> InferenceSummary:
        return run_inference(plan(store, tasks(2), NoopModel()), store, concurrency=2)

    assert asyncio.run(main()).asked == 2


def test_a_model_serves_a_second_run(server: ChatServer, store: CommandStore) -> None:
    model = chat(server)
    run_inference(plan(store, tasks(2), model), store, concurrency=2)
    run_inference(plan(store, tasks(2), model, refresh=True), store, concurrency=2)
    assert len(server.requests) == 4


def test_an_empty_plan(store: CommandStore) -> None:
    assert run_inference(InferencePlan(), store, concurrency=4).asked == 0
    assert not store.path.exists()
