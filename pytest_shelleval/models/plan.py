"""The requests that phase 1 has to make, given the replies in commands.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_shelleval.core.commands import Command, CommandStore, clean_params
from pytest_shelleval.core.tasks import Task
from pytest_shelleval.models.base import Message, Model
from pytest_shelleval.models.extract import extract_command
from pytest_shelleval.models.prompt import prompt_hash
from pytest_shelleval.models.records import Extract, Job, brought_up_to_date, read_again

Prompts = Callable[[Task], Sequence[Message]]
"""From a task to its messages: :meth:`PromptTemplate.render`, or a hook's result."""


@dataclass(slots=True)
class InferencePlan:
    """The requests to make, and those already answered."""

    jobs: list[Job] = field(default_factory=list)
    known: dict[str, list[int]] = field(default_factory=dict)
    """By model name, the output tokens of each stored answer to the same request."""
    outdated: list[Command] = field(default_factory=list)
    """Stored answers whose records must be written again: the row has changed, another prompt was in
    force, or a command was found in an answer that seemed to have none."""

    @property
    def free(self) -> set[str]:
        """Names of the plan's models that cost nothing."""
        return {job.model.name for job in self.jobs if getattr(job.model, "free", False)}

    @property
    def cached(self) -> int:
        """How many requests are already answered."""
        return sum(map(len, self.known.values()))


def plan_inference(
    wanted: Iterable[tuple[Task, Model, int]],
    *,
    prompts: Prompts,
    params: Mapping[str, Any],
    store: CommandStore,
    refresh: bool = False,
    extract: Extract = extract_command,
) -> InferencePlan:
    """The requests needed to answer each of *wanted*, given the answers in *store*.

    *wanted* are tasks with the model to ask and the number of the sample. Models that cost nothing
    are always asked; with *refresh* all are. Otherwise a model that has answered is not asked again:
    *extract* only reads an answer without a command again. Duplicates (by task id, model name and
    sample) are asked once. Raises what *prompts* raises (UserError for a misspelt column).
    """
    plan = InferencePlan()
    params = clean_params(params)
    rendered: Task | None = None  # the last task: requests for one task are mostly adjacent
    messages: Sequence[Message] = ()
    digest = ""
    seen: set[tuple[str, str, int]] = set()
    for task, model, sample in wanted:
        if (task.task_id, model.name, sample) in seen:
            continue
        seen.add((task.task_id, model.name, sample))
        if task is not rendered:
            rendered, messages = task, prompts(task)
            digest = prompt_hash(messages)
        known = None
        if not refresh and not getattr(model, "free", False):
            known = store.cached(task.task_id, model.name, sample, digest, params)
        if known is None:
            plan.jobs.append(Job(task, model, sample, messages, digest, params))
            continue
        tokens = (known.usage or {}).get("output_tokens", 0)
        plan.known.setdefault(model.name, []).append(tokens)
        known = brought_up_to_date(read_again(known, extract), task)
        if not store.holds(known):
            plan.outdated.append(known)
    return plan
