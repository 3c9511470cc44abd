"""One run on several machines: which tasks belong to which."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a run, ``I/N``: *number* from 1 to *total*."""

    number: int
    total: int

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


def parse_shard(text: str) -> Shard:
    """The shard of *text*: ``2/3`` is the second of three. Raises ValueError for anything else."""
    number, slash, total = text.partition("/")
    if slash and number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total):
        return Shard(int(number), int(total))
    raise ValueError("I/N is expected, with I from 1 to N, such as 1/3")


def tasks_of(shard: Shard, task_ids: Iterable[str]) -> frozenset[str]:
    """The *task_ids* that belong to *shard*.

    Ids are sorted by their hash and dealt out in turn: the order of the rows does not matter, similar
    neighbours are spread, and the sizes of shards differ by one task at most.
    """
    ranked = sorted(set(task_ids), key=lambda ident: (_digest(ident), ident))
    return frozenset(ranked[shard.number - 1 :: shard.total])


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
