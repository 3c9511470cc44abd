"""Rows become tasks, or faults that name file, line and field."""

from __future__ import annotations

import pytest

from pytest_shelleval.core.errors import UserError
from pytest_shelleval.core.tasks import Row, Task, build_tasks

GOOD = {"task": "Do it", "success_condition": "true"}


def build(*rows: dict[str, object], **options: int) -> list[Task]:
    numbered = [Row(f"t.jsonl:{number}", fields) for number, fields in enumerate(rows, 1)]
    (tasks,) = build_tasks([numbered], **options)
    return tasks


def faults(*rows: dict[str, object]) -> list[str]:
    with pytest.raises(UserError) as caught:
        build(*rows)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("setup", "expected"),
    [
        (["mkdir a", "cd a"], ("mkdir a", "cd a")),
        ("mkdir a\ncd a", ("mkdir a\ncd a",)),
        ([], ()),
        ("", ()),
        (None, ()),
    ],
)
def test_setup_commands_may_be_list_string_or_null(
    setup: object, expected: tuple[str, ...]
) -> None:
    (task,) = build({**GOOD, "setup_commands": setup})
    assert task.setup_commands == expected


def test_setup_commands_may_be_absent() -> None:
    assert build(GOOD)[0].setup_commands == ()


def test_other_columns_are_kept_as_metadata() -> None:
    (task,) = build({**GOOD, "gold_command": "do", "source": "x", "empty": None, "timeout": "5"})
    assert task.gold_command == "do"
    assert task.timeout == 5.0
    assert task.metadata == {"source": "x"}


def test_an_id_of_its_own_is_kept() -> None:
    tasks = build({**GOOD, "task_id": "git-1"}, {**GOOD, "id": 7})
    assert [task.task_id for task in tasks] == ["git-1", "7"]


def test_an_id_is_made_safe_and_stays_distinct() -> None:
    tasks = build(
        {**GOOD, "id": "a::b [c]\x1b"}, {**GOOD, "id": "a_b_c_"}, {**GOOD, "id": "a b c "}
    )
    ids = [task.task_id for task in tasks]
    assert len(set(ids)) == 3
    for task_id in ids:
        assert "::" not in task_id
        assert not set(task_id) & set("[] \x1b")


def test_an_id_from_the_content_survives_reordering_and_equal_rows_are_numbered() -> None:
    other = {**GOOD, "task": "Do something else"}
    first = [task.task_id for task in build(GOOD, other)]
    assert [task.task_id for task in build(other, GOOD)] == first[::-1]
    assert [task.task_id for task in build(GOOD, GOOD, GOOD)] == [
        first[0],
        f"{first[0]}-2",
        f"{first[0]}-3",
    ]


def test_an_id_of_120_characters_is_kept_and_a_longer_one_cut_there() -> None:
    whole, longer, other = "a" * 120, "a" * 121, "a" * 122
    ids = [
        task.task_id for task in build(*({**GOOD, "id": each} for each in (whole, longer, other)))
    ]
    assert ids[0] == whole
    assert [each[:121] for each in ids[1:]] == [f"{whole}-"] * 2
    assert [len(each) for each in ids[1:]] == [125, 125]
    assert len(set(ids)) == 3


@pytest.mark.parametrize("timeout", [0, "0", -0.0, "nan", "inf", "1e999", [], "soon"])
def test_a_timeout_is_a_number_of_seconds_more_than_0(timeout: object) -> None:
    (fault,) = faults({**GOOD, "timeout": timeout})
    assert fault == f"t.jsonl:1: timeout: seconds, more than 0, are expected, not {timeout!r}"
    assert build({**GOOD, "timeout": 1e-3})[0].timeout == 1e-3


def test_all_broken_rows_are_named_at_once() -> None:
    found = faults(
        {"success_condition": "true"},
        GOOD,
        {"task": 3, "success_condition": " "},
        {**GOOD, "setup_commands": ["a", 1]},
        {**GOOD, "setup_commands": {"a": 1}},
        {**GOOD, "timeout": -1},
        {**GOOD, "timeout": True},
        {**GOOD, "steps": "both"},
        {**GOOD, "tags": 3},
        {**GOOD, "id": ["x"]},
        {**GOOD, "task": "half \ud800"},
        {**GOOD, "difficulty_level": []},
    )
    assert found == [
        "t.jsonl:1: task: missing",
        "t.jsonl:3: task: a string is expected, not a number",
        "t.jsonl:3: success_condition: empty",
        "t.jsonl:4: setup_commands: item 2: a string is expected, not a number",
        "t.jsonl:5: setup_commands: a list of strings or a string is expected, not an object",
        "t.jsonl:6: timeout: seconds, more than 0, are expected, not -1",
        "t.jsonl:7: timeout: seconds, more than 0, are expected, not True",
        "t.jsonl:8: steps: separate or shared is expected, not 'both'",
        "t.jsonl:9: tags: a list of strings is expected, not a number",
        "t.jsonl:10: id: a string or number is expected, not a list",
        "t.jsonl:11: task: half of a surrogate pair (\\ud800 to \\udfff); no text has that",
        "t.jsonl:12: difficulty_level: a string or number is expected, not a list",
    ]


def test_an_id_given_twice_is_a_fault_also_over_datasets() -> None:
    twice = {**GOOD, "id": "x"}
    assert "t.jsonl:2: id: 'x' is also the id of t.jsonl:1" in faults(twice, twice)[0]
    with pytest.raises(UserError, match=r"b:1: id: 'x' is also the id of a:1"):
        build_tasks([[Row("a:1", twice)], [Row("b:1", twice)]])


def test_many_faults_are_counted() -> None:
    found = faults(*[{}] * 30)
    assert found[-1] == "... and 40 more"


def test_max_samples_takes_the_first_rows_of_each_dataset() -> None:
    rows = [[Row(f"{name}:{n}", {**GOOD, "id": f"{name}{n}"}) for n in range(3)] for name in "ab"]
    tasks = build_tasks(rows, max_samples=2)
    assert [[task.task_id for task in each] for each in tasks] == [["a0", "a1"], ["b0", "b1"]]
