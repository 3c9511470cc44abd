"""Names of a run's results: on the command line, in reports, in pytest's node ids."""

from __future__ import annotations


def suffix(model: str | None, sample: int | None) -> str:
    """The suffix of the task's id: ``[model-0]``, ``[model]``, ``[0]``; empty if both are None."""
    parts = [str(part) for part in (model, sample) if part is not None]
    return "[" + "-".join(parts).replace("::", ":") + "]" if parts else ""
