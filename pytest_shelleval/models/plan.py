"""What phase 1 has to ask, given what commands.jsonl holds."""

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
"""From a task to its messages: :meth:`PromptTemplate.render`, or what a hook gives."""


@dataclass(slots=True)
class InferencePlan:
    """What is to be asked, and what need not be."""

    jobs: list[Job] = field(default_factory=list)
    known: dict[str, list[int]] = field(default_factory=dict)
    """By model's name, the output tokens of each answer bought before to the same request."""
    outdated: list[Command] = field(default_factory=list)
    """Of those, what the file has to say anew: the row has changed, another prompt was in force, or
    a command was found in an answer that seemed to have none."""

    @property
    def free(self) -> set[str]:
        """Names of the models in it that cost nothing."""
        return {job.model.name for job in self.jobs if getattr(job.model, "free", False)}

    @property
    def cached(self) -> int:
        """Requests that need not be made."""
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
    """What must be asked to have an answer to each of *wanted*, given what *store* holds.

    *wanted* are tasks with the model to ask and the number of the sample. Models that cost nothing
    are always asked; with *refresh* all are. Else a model that has answered is not asked again: an
    answer without a command is only read again, by *extract*. What is wanted twice (by task id and
    model's name) is asked once. Raises what *prompts* raises (UserError for a misspelt column).
    """
    plan = InferencePlan()
    params = clean_params(params)
    rendered: Task | None = None  # all that is wanted of a task mostly stands together
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
