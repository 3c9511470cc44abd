"""Writes report.html: a self-contained page that shows a run and needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pytest_shelleval.core.files import replace_file_by
from pytest_shelleval.core.stats import Estimate
from pytest_shelleval.report.charts import distributions
from pytest_shelleval.report.compare import KINDS, Comparison, compare_runs, title
from pytest_shelleval.report.payload import chunks, index
from pytest_shelleval.report.run import RecordedRun, group_rates, load_run, pass_rate
from pytest_shelleval.report.words import count, interval, p_text, percent, points, seconds, visible

REPORT = "report.html"
_SCRIPTS = ("base.js", "table.js", "detail.js")


@dataclass(frozen=True, slots=True)
class Headline:
    """The figures of one model, with all denominators."""

    name: str
    rate: Estimate
    passed: int
    failed: int
    errors: int
    selected: int | None
    """Selected commands; None for a partial run of several models, which does not record it."""
    at_k: list[tuple[int, Estimate]]

    @property
    def scored(self) -> int:
        """Commands with a verdict."""
        return self.passed + self.failed

    @property
    def run(self) -> int:
        """Commands with a result."""
        return self.scored + self.errors

    @property
    def scored_rate(self) -> float | None:
        """Passes among those with a verdict."""
        return self.passed / self.scored if self.scored else None


def write_report(directory: Path, *, baseline: Path | None = None) -> Path:
    """Write ``report.html`` beside the results.jsonl in *directory* (or that is *directory*).

    With *baseline*, an earlier run's folder or results.jsonl, tasks are shown side by side. Returns
    the file's path. Raises UserError when a file can't be read or written, or when no model of the
    two runs can be paired.
    """
    run = load_run(directory)
    comparison = None if baseline is None else compare_runs(load_run(baseline), run)
    return write_loaded(run, comparison)


def write_loaded(run: RecordedRun, comparison: Comparison | None = None) -> Path:
    """Write ``report.html`` of a run that is loaded, beside its results.jsonl.

    Returns the file's path. Raises UserError when it can't be written.
    """
    path = run.results.with_name(REPORT)
    replace_file_by(path, (part.encode() for part in render(run, comparison)))
    return path


def render(run: RecordedRun, comparison: Comparison | None = None) -> Iterator[str]:
    """The report as HTML, in parts, so that a large one is never in memory as a whole."""
    from jinja2 import Environment, StrictUndefined

    assets = files("pytest_shelleval.report") / "assets"
    script = "\n".join((assets / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();'
    style = (assets / "report.css").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(
        percent=percent, interval=interval, points=points, p_text=p_text, seconds=seconds
    )
    template = environment.from_string((assets / "report.html.j2").read_text(encoding="utf-8"))
    # Markup, for what is made here and safe: a script and style of ours, JSON and base64
    from markupsafe import Markup

    return template.generate(
        script=Markup(script),
        style=Markup(style),
        policy=_policy(script, style),
        index=(Markup(part) for part in index(run, comparison)),
        chunks=(Markup(chunk) for chunk in chunks(run, comparison)),
        comparison=comparison,
        kinds=KINDS,
        pair_title=title,
        count=count,
        **_figures(run),
    )


def _finalize(value: object) -> object:
    """Escape control and invisible characters in every text that the template shows."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _policy(script: str, style: str) -> str:
    """A Content-Security-Policy that allows only our script and style, and no requests."""

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _figures(run: RecordedRun) -> dict[str, Any]:
    """The values that the template shows above the table of results."""
    models = [model or "unknown" for model in run.models]
    tokens: dict[str, list[float]] = {name: [] for name in models}
    times: dict[str, list[float]] = {name: [] for name in models}
    latencies: dict[str, list[float]] = {name: [] for name in models}
    reasons: Counter[tuple[str, str]] = Counter()
    for row in run.rows:
        name = row.model or "unknown"
        if row.durations:
            times[name].append(row.seconds)
        if row.latency:
            latencies[name].append(row.latency)
        if row.tokens.get("output"):
            tokens[name].append(row.tokens["output"])
        if row.reason:
            reasons[row.reason.label, row.reason.kind] += 1
    summary, counts = run.summary, run.counts
    recorded, errors = len(run.rows), counts.count("error")
    return {
        "run": run,
        "title": _title(run),
        "facts": _facts(run),
        "headlines": _headlines(run),
        "tasks": len({row.task_id for row in run.rows}),
        "selected": summary.get("total_samples", recorded) if run.summary_found else None,
        "recorded": recorded,
        "errors": errors,
        "complete": summary.get("complete", True),
        "error_kinds": counts.error_kinds(),
        "groups": {by: group_rates(counts, by) for by in ("tag", "difficulty")},
        "models": models,
        "reasons": reasons.most_common(),
        "charts": [
            ("Time in the sandbox", "seconds", "time", distributions(dict(times), 0.001)),
            ("Time for the reply", "seconds", "time", distributions(dict(latencies), 0.001)),
            ("Output tokens", "tokens", "number", distributions(dict(tokens), 1.0)),
        ],
        "usage": dict(counts.usage),
        "durations": dict(counts.durations),
        "settings": _settings(summary),
    }


def _headlines(run: RecordedRun) -> list[Headline]:
    counts, summary = run.counts, run.summary
    alone = len(run.models) == 1
    lines = []
    for model in run.models:
        passed, failed, errors = (counts.count(s, model) for s in ("passed", "failed", "error"))
        done = passed + failed + errors
        selected = None
        if run.summary_found:
            selected = summary["total_samples"] if alone else done if summary["complete"] else None
        ks = sorted(map(int, counts.pass_at_k(model)))
        lines.append(
            Headline(
                name=model or "unknown",
                rate=pass_rate(counts, model),
                passed=passed,
                failed=failed,
                errors=errors,
                selected=selected,
                at_k=[(k, pass_rate(counts, model, k)) for k in ks if len(ks) > 1],
            )
        )
    return lines


def _title(run: RecordedRun) -> str:
    dataset = run.summary.get("dataset_path")
    names = [Path(name).name for name in str(dataset).split(", ")] if dataset else [run.name]
    return ", ".join(names)


def _facts(run: RecordedRun) -> list[tuple[str, str]]:
    """Short facts that identify the run."""
    summary = run.summary
    settings = summary.get("settings") or {}
    first = next(run.records(run.rows[:1]), {})
    facts = [
        ("dataset", f"sha256 {str(summary.get('dataset_sha256') or '')[:12]}"),
        ("prompt", f"sha256 {str(summary.get('prompt_sha256') or '')[:12]}"),
        ("sandbox", ", ".join(sorted(run.sandboxes))),
        ("steps", ", ".join(sorted(run.steps))),
        ("phase", str(settings.get("phase") or "")),
        ("started", str(first.get("start_time") or "")[:19].replace("T", " ")),
        ("commit", str(summary.get("git_commit") or "")[:12]),
    ]
    wall = summary.get("evaluation_time")
    if isinstance(wall, (int, float)):
        facts.append(("wall time", seconds(wall)))
    return [(name, value) for name, value in facts if value and value != "sha256 "]


def _settings(summary: dict[str, Any]) -> list[tuple[str, str]]:
    settings = {**(summary.get("settings") or {}), **(summary.get("versions") or {})}
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in settings.items()
        if value not in (None, "", [], {})
    ]
