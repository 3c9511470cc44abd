"""Runs phase 1 in pytest's controller: for the selected items, before the first test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_shelleval.adapter.run import Case, Run
from pytest_shelleval.core.errors import UserError

if TYPE_CHECKING:
    import pytest

    from pytest_shelleval.core.commands import Command
    from pytest_shelleval.core.tasks import Task
    from pytest_shelleval.models.base import Message, Model, Reply, Request
    from pytest_shelleval.models.extract import Extraction
    from pytest_shelleval.models.inference import InferenceSummary
    from pytest_shelleval.models.money import Forecast
    from pytest_shelleval.models.plan import InferencePlan
    from pytest_shelleval.models.prompt import PromptTemplate


class _Named:
    """A user's model, under the name given on the command line."""

    def __init__(self, name: str, model: Model | None) -> None:
        self.name = name
        self.free = getattr(model, "free", False)
        self._model = model

    @property
    def is_own(self) -> bool:
        """Whether it wraps a user's model, rather than only a server's name to plan with."""
        return self._model is not None

    @property
    def warnings(self) -> list[str]:
        """The model's warnings."""
        found: list[str] = getattr(self._model, "warnings", [])
        return found

    async def generate(self, request: Request) -> Reply | str:
        """Ask the model."""
        assert self._model is not None, "only planned with"
        return await self._model.generate(request)

    async def aclose(self) -> None:
        """Close the model, if it can be closed."""
        close = getattr(self._model, "aclose", None)
        if close is not None:
            await close()


class Phase1:
    """Asks the models for commands, or with ``--shelleval-phase=execution`` looks for them."""

    def __init__(self, config: pytest.Config, run: Run) -> None:
        self.config = config
        self.run = run
        self.summary: InferenceSummary | None = None
        """None until a model was asked."""

    @cached_property
    def template(self) -> PromptTemplate:
        """The prompt of this run. Raises UserError when its file can't be read."""
        from pytest_shelleval.models.prompt import PromptTemplate

        settings = self.run.settings
        template = PromptTemplate.from_files(settings.prompt, settings.system_prompt)
        columns = {column for tasks in self.run.tasks for task in tasks for column in task.metadata}
        return replace(template, columns=frozenset(columns))

    def check(self) -> None:
        """Check models and prompt, or commands, before anything is spent. Raises UserError."""
        if self.run.settings.phase == "execution":
            self.run.check_commands()
        else:
            self.template  # noqa: B018 - loads and checks
            self.models  # noqa: B018

    def ask_or_find(self, wanted: Sequence[Case]) -> None:
        """Get a command for each of *wanted*, as far as possible.

        Raises UserError or InferenceAborted if there can be none at all.
        """
        if self.run.settings.phase == "execution":
            self._find(wanted)
        else:
            self._ask(wanted)

    @cached_property
    def models(self) -> dict[str, Model]:
        """Every model of the run by its name. Raises UserError when one can't be used."""
        return {name: self._model(name) for name in self.run.settings.model}

    def _model(self, name: str) -> Model:
        from pytest_shelleval.models.registry import build_model

        settings = self.run.settings
        model: Model | None = self.config.hook.pytest_shelleval_model(name=name, settings=settings)
        if model is not None:
            return _Named(name, model)
        return build_model(
            name,
            base_url=settings.base_url,
            api_key=settings.api_key,
            timeout=settings.request_timeout,
            rpm=settings.rpm,
            tpm=settings.tpm,
            max_wait=settings.max_wait,
        )

    def _find(self, wanted: Sequence[Case]) -> None:
        store, file = self.run.commands, self.run.settings.commands_file
        if not any(store.pair_for(each.task, each.model, each.sample) for each in wanted):
            raise UserError(
                f"{file} has no command for any of the {len(wanted)} selected tasks; it holds "
                f"{len(store)} commands, of the models: {', '.join(store.models()) or 'none'}"
            )

    def forecast(self, wanted: Sequence[Case]) -> dict[str, Forecast]:
        """Estimate, by model, what asking for *wanted* takes; asks nothing.

        Raises UserError for an invalid prompt.
        """
        from pytest_shelleval.models.money import forecast

        settings = self.run.settings
        models = {name: self._stand_in(name) for name in settings.model}
        plan = self._plan(wanted, models)
        batch = settings.inference == "batch"
        return forecast(
            plan,
            settings.prices,
            batched=lambda model: batch and isinstance(model, _Named) and not model.is_own,
        )

    def _stand_in(self, name: str) -> Model:
        """A model for planning only: for a server's, no key and no client are needed."""
        from pytest_shelleval.models.registry import BUILT_IN

        if name in BUILT_IN:
            return self._model(name)
        settings = self.run.settings
        model: Model | None = self.config.hook.pytest_shelleval_model(name=name, settings=settings)
        return _Named(name, model)

    def _plan(self, wanted: Sequence[Case], models: Mapping[str, Model]) -> InferencePlan:
        from pytest_shelleval.models.plan import plan_inference

        settings = self.run.settings
        return plan_inference(
            ((each.task, models[each.model or ""], each.sample) for each in wanted),
            prompts=self._messages,
            params=settings.params,
            store=self.run.commands,
            refresh=settings.refresh,
            extract=self._extract,
        )

    def _ask(self, wanted: Sequence[Case]) -> None:
        from pytest_shelleval.adapter.terminal import progress
        from pytest_shelleval.models.inference import (
            InferenceOptions,
            InferenceSummary,
            run_inference,
        )

        settings, store = self.run.settings, self.run.commands
        plan = self._plan(wanted, self.models)
        shown = progress(self.config, "shelleval inference")
        total = len(plan.jobs)
        models = ", ".join(self.models)
        done = failed = 0

        def step(command: Command) -> None:
            nonlocal done, failed
            done, failed = done + 1, failed + (command.generated_command is None)
            without = f", {failed} without a command" if failed else ""
            shown.show(done, total, f"from {models}{without}")

        self.summary = InferenceSummary()
        terms = InferenceOptions(
            on_record=step,
            extract=self._extract,
            prices=settings.prices,
            max_cost=settings.max_cost,
        )
        try:
            if settings.inference == "batch":
                from pytest_shelleval.models.batch import run_batch

                plan = run_batch(plan, store, terms=terms, summary=self.summary, on_wait=shown.say)
            run_inference(
                plan,
                store,
                concurrency=settings.inference_concurrency,
                terms=terms,
                summary=self.summary,
            )
        finally:
            shown.end()
            store.close()

    def _messages(self, task: Task) -> Sequence[Message]:
        messages = self.template.render(task)
        replaced: Sequence[Message] | None = self.config.hook.pytest_shelleval_prompt(
            task=task, messages=messages
        )
        return messages if replaced is None else replaced

    def _extract(self, text: str) -> Extraction:
        from pytest_shelleval.models.extract import Extraction, extract_command
        from pytest_shelleval.models.records import BY_HOOK

        found: str | None = self.config.hook.pytest_shelleval_extract(text=text)
        if found is None:
            return extract_command(text)
        return Extraction(command=found, rule=BY_HOOK)
