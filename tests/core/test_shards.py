"""Which tasks are whose: stable, balanced, each task once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_shelleval.core.shards import Shard, parse_shard, tasks_of


@settings(max_examples=50)
@given(st.lists(st.text(max_size=8), max_size=30, unique=True), st.integers(1, 9))
def test_shards_part_the_tasks(ids: list[str], total: int) -> None:
    parts = [tasks_of(Shard(number, total), ids) for number in range(1, total + 1)]
    assert sorted(ident for part in parts for ident in part) == sorted(ids)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert tasks_of(Shard(1, total), sorted(ids)) == parts[0]


def test_shards_are_the_same_everywhere_and_forever() -> None:
    ids = [f"task-{number}" for number in range(12)]
    assert sorted(tasks_of(parse_shard("2/3"), ids)) == ["task-2", "task-3", "task-4", "task-5"]


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1.0/2"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match="I/N is expected"):
        parse_shard(text)
