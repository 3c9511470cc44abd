"""Phase 1 through the Batch API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_shelleval.core.commands import CommandStore
from pytest_shelleval.core.errors import InferenceAborted, InferencePaused, UserError
from pytest_shelleval.models.batch import run_batch, state_file
from pytest_shelleval.models.chat import ChatModel
from pytest_shelleval.models.inference import InferenceOptions, InferenceSummary
from pytest_shelleval.models.mock import MockModel
from pytest_shelleval.models.money import Prices
from pytest_shelleval.models.plan import InferencePlan

from .batch_server import BatchServer
from .chat_server import Answer, completion, error
from .test_inference import lines, plan, tasks


@pytest.fixture
def batches() -> Iterator[BatchServer]:
    server = BatchServer()
    yield server
    server.close()


def chat(server: BatchServer) -> ChatModel:
    return ChatModel("m", base_url=server.url)


def run(wanted: InferencePlan, store: CommandStore, **options: Any) -> InferencePlan:
    return run_batch(wanted, store, **{"poll": 0.01, **options})


class Stopped(BaseException):
    """The process ends here."""


def stop(text: str) -> None:
    raise Stopped


def test_a_batch_becomes_records(batches: BatchServer, store: CommandStore) -> None:
    batches.polls = 3
    summary, said = InferenceSummary(), []
    wanted = plan(store, tasks(5), chat(batches), MockModel())
    terms = InferenceOptions(prices=Prices(1.0, 10.0), max_cost=1)
    left = run(wanted, store, summary=summary, on_wait=said.append, terms=terms)
    assert [job.model.name for job in left.jobs] == ["mock"] * 5
    assert (summary.asked, summary.failed, summary.input_tokens) == (5, 0, 35)
    assert summary.cost == pytest.approx(5 * (7 + 50) / 1e6 / 2)
    assert {line["generated_command"] for line in lines(store)} == {"ls -l"}
    assert {line["inference"] for line in lines(store)} == {"batch"}
    assert all(line["timestamp"] for line in lines(store))
    assert len(said) == 3
    assert "batch_0 in_progress" in said[0]
    assert batches.log.count("POST /v1/batches") == 1
    assert not state_file(store).exists()
    assert not plan(store, tasks(5), chat(batches)).jobs


def test_the_batches_of_all_models_are_submitted_before_the_first_is_waited_for(
    batches: BatchServer, store: CommandStore
) -> None:
    models = [ChatModel(name, base_url=batches.url) for name in ("a", "b", "c")]
    with pytest.raises(Stopped):
        run(plan(store, tasks(2), *models), store, on_wait=stop)
    assert batches.log.count("POST /v1/batches") == 3
    run(plan(store, tasks(2), *models), store)
    assert len(batches.batches) == 3
    assert sorted(line["model"] for line in lines(store)) == ["a", "a", "b", "b", "c", "c"]
    assert not state_file(store).exists()


def test_an_answer_without_a_command_is_final_in_a_batch_too(
    batches: BatchServer, store: CommandStore
) -> None:
    batches.answer = lambda request: (
        completion("I can't.") if "thing 1" in str(request) else completion("", finish="error")
    )
    summary = InferenceSummary()
    run(plan(store, tasks(2), chat(batches)), store, summary=summary)
    assert (summary.failed, summary.unanswered) == (2, 1)
    again = plan(store, tasks(2), chat(batches))
    assert [job.task.task_id for job in again.jobs] == ["t0"]


def test_a_run_that_was_stopped_goes_on_and_submits_nothing_twice(
    batches: BatchServer, store: CommandStore
) -> None:
    batches.polls = 2
    with pytest.raises(Stopped):
        run(plan(store, tasks(5), chat(batches)), store, on_wait=stop)
    assert state_file(store).exists()
    # fewer tasks are selected now: what was bought is kept all the same; and one is new
    run(plan(store, tasks(6)[4:], chat(batches)), store)
    assert len(lines(store)) == 6
    assert batches.log.count("POST /v1/batches") == 2
    sent = [len(batches.files[b["input_file_id"]].splitlines()) for b in batches.batches.values()]
    assert sent == [5, 1]


@pytest.mark.parametrize(("room", "sizes"), [(0, [2, 2, 1]), (-1, [1, 1, 1, 1, 1])])
def test_a_batch_may_have_so_many_bytes(
    batches: BatchServer,
    store: CommandStore,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    sizes: list[int],
) -> None:
    run(plan(store, tasks(1), chat(batches)), store)
    (line,) = batches.files["file-0"].splitlines()
    two_lines = 2 * len(line + b"\n")
    monkeypatch.setattr("pytest_shelleval.models.batch._BYTES_PER_BATCH", two_lines + room)
    run(plan(store, tasks(6)[1:], chat(batches)), store)
    sent = [batches.files[batch["input_file_id"]] for batch in batches.batches.values()]
    assert [len(each.splitlines()) for each in sent[1:]] == sizes
    assert len(lines(store)) == 6


def test_a_batch_may_have_so_many_requests(
    batches: BatchServer, store: CommandStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytest_shelleval.models.batch._REQUESTS_PER_BATCH", 2)
    run(plan(store, tasks(5), chat(batches)), store)
    sent = [batches.files[batch["input_file_id"]] for batch in batches.batches.values()]
    assert [len(each.splitlines()) for each in sent] == [2, 2, 1]
    assert len(lines(store)) == 5


@pytest.mark.parametrize("arrived", [True, False])
def test_a_run_that_was_stopped_while_it_submitted(
    batches: BatchServer, store: CommandStore, arrived: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openai.resources.batches import Batches

    create = Batches.create

    def killed(self: Batches, **options: Any) -> None:
        if arrived:
            create(self, **options)
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "create", killed)
        with pytest.raises(Stopped):
            run(plan(store, tasks(3), chat(batches)), store)
    run(plan(store, tasks(3), chat(batches)), store)
    assert len(lines(store)) == 3
    assert len(batches.batches) == 1


def test_a_batch_of_which_nobody_knows_is_not_submitted_again(
    batches: BatchServer, store: CommandStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openai.resources.batches import Batches

    def killed(self: Batches, **options: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "create", killed)
        with pytest.raises(Stopped):
            run(plan(store, tasks(3), chat(batches)), store)
    batches.broken = {"GET /v1/batches": 405}
    with pytest.raises(InferenceAborted, match=r"delete .*batches\.json to submit it again"):
        run(plan(store, tasks(3), chat(batches)), store)
    assert not batches.batches


def test_the_query_of_a_base_url_ends_every_request(
    batches: BatchServer, store: CommandStore
) -> None:
    model = ChatModel("m", base_url=f"{batches.url}?api-version=1")
    run(plan(store, tasks(1), model), store)
    assert len(lines(store)) == 1
    assert len(batches.paths) >= 4
    assert {path.partition("?")[2] for path in batches.paths} == {"api-version=1"}


@pytest.mark.parametrize("place", ["POST /v1/files", "POST /v1/batches"])
def test_a_server_without_batches_is_asked_directly(
    batches: BatchServer, store: CommandStore, place: str
) -> None:
    batches.broken = {place: 404}
    summary = InferenceSummary()
    left = run(plan(store, tasks(3), chat(batches)), store, summary=summary)
    assert len(left.jobs) == 3
    assert "has no Batch API (status 404); asked directly" in summary.warnings[0]
    assert not state_file(store).exists()


def test_failed_requests_and_those_without_an_answer(
    batches: BatchServer, store: CommandStore
) -> None:
    def answer(body: dict[str, Any]) -> Answer | None:
        number = int(body["messages"][0]["content"].split()[2])
        return {0: error(400, "too long"), 1: completion("I can't."), 2: None}.get(
            number, completion()
        )

    batches.answer, batches.final = answer, "expired"
    summary = InferenceSummary()
    run(plan(store, tasks(5), chat(batches)), store, summary=summary)
    found = {line["task_id"]: line for line in lines(store)}
    assert sorted(found) == ["t0", "t1", "t3", "t4"]
    assert "answered 400 in the batch: too long" in found["t0"]["error"]
    assert found["t0"]["raw_response"] is None
    assert found["t1"]["error"] == "the model declined"
    assert "1 of its requests have no answer" in summary.warnings[0]
    assert not state_file(store).exists()


def test_lines_that_answer_nothing_are_passed_over(
    batches: BatchServer, store: CommandStore
) -> None:
    batches.noise = ['{"custom_id": "another', "[]", "{}", '{"custom_id": "another"}']
    run(plan(store, tasks(3), chat(batches)), store)
    assert [line["generated_command"] for line in lines(store)] == ["ls -l"] * 3


def test_a_batch_that_failed(batches: BatchServer, store: CommandStore) -> None:
    batches.final = "failed"
    with pytest.raises(InferenceAborted, match="batch_0 has failed: line 1: bad"):
        run(plan(store, tasks(2), chat(batches)), store)
    assert not state_file(store).exists()


def test_a_batch_that_may_cost_too_much_is_not_submitted(
    batches: BatchServer, store: CommandStore
) -> None:
    with pytest.raises(InferencePaused, match="nothing was submitted"):
        run(
            plan(store, tasks(9), chat(batches), params={"max_tokens": 1000}),
            store,
            terms=InferenceOptions(prices=Prices(1, 1), max_cost=0.001),
        )
    assert batches.log == []


def test_a_batch_counts_what_was_spent_before_and_what_is_under_way(
    batches: BatchServer, store: CommandStore
) -> None:
    params = {"max_tokens": 1000}
    # 2 replies of 1000 tokens, and the prompts; a batch costs half
    terms = InferenceOptions(prices=Prices(1.0, 10.0), max_cost=0.0125)
    with pytest.raises(Stopped):
        run(plan(store, tasks(1), chat(batches), params=params), store, terms=terms, on_wait=stop)
    batches.answer = lambda _: completion(usage=None)
    summary = InferenceSummary()
    wanted = plan(store, tasks(3), chat(batches), params=params)
    with pytest.raises(InferencePaused, match=r"after 0\.005\d by earlier calls"):
        run(wanted, store, terms=terms, summary=summary)
    # what was under way is kept, and without usage it counts as before
    assert (len(batches.batches), len(lines(store))) == (1, 1)
    assert 0.005 < (summary.cost or 0) < 0.0055
    with pytest.raises(InferencePaused, match=r"after 0\.005\d by earlier calls"):
        run(wanted, store, terms=terms)
    run(plan(store, tasks(2), chat(batches), params=params), store, terms=terms)
    assert (len(batches.batches), len(lines(store))) == (2, 2)


def test_a_state_file_that_is_broken(batches: BatchServer, store: CommandStore) -> None:
    state_file(store).write_text("{")
    with pytest.raises(UserError, match="lists the batches under way"):
        run(plan(store, tasks(1), chat(batches)), store)
