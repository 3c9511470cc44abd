"""Renders a validation's report for a terminal or a CI log: 80 columns, no colour."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_shelleval.report.words import count, seconds, visible, wrapped
from pytest_shelleval.validation.findings import KINDS, Finding, Report, Severity

_SHOWN = 40  # rows of a group; --json has all
_DETAIL = 300
_SECTIONS: tuple[tuple[Severity, str], ...] = (
    ("fault", "FAULTS"),
    ("warning", "WARNINGS"),
    ("remark", "NOT JUDGED"),
)


def lines(report: Report) -> Iterator[str]:
    """The whole report: a section per severity, in it a group per kind, and the counts at the end."""
    for severity, _ in _SECTIONS:
        yield from section(report, severity)
    yield from summary(report)


def section(report: Report, severity: Severity) -> Iterator[str]:
    """The findings of one severity, by kind; nothing if there are none."""
    title = dict(_SECTIONS)[severity]
    found = [each for each in report.findings if each.severity == severity]
    if not found:
        return
    yield f"{title}: {count(len(report.rows_with(severity)), 'row')}"
    for kind, known in KINDS.items():
        group = [each for each in found if each.kind == kind]
        if not group:
            continue
        yield ""
        yield from wrapped(known.title)
        for each in group[:_SHOWN]:
            yield from _finding(each)
        if len(group) > _SHOWN:
            yield f"  ... and {len(group) - _SHOWN:,} more (--json has them all)"
        yield from wrapped(f"fix: {known.fix}", "  ")
    yield ""


def _finding(found: Finding) -> Iterator[str]:
    name = f" {found.task_id}" if found.task_id is not None else ""
    detail = " ".join(visible(found.detail).split())
    if len(detail) > _DETAIL:
        detail = detail[:_DETAIL] + "..."
    yield from wrapped(f"{found.where}{name}: {detail}", "  ")


def summary(report: Report) -> Iterator[str]:
    """The counts, notes about the dataset, and whether the validation was interrupted."""
    if not report.complete:
        yield f"PARTIAL: interrupted; {report.judged:,} of {report.rows:,} rows were tried completely"
    parts = [
        f"{report.sound:,} sound",
        f"{len(report.faulty):,} faulty",
        f"{len(report.rows_with('warning')):,} with warnings",
    ]
    not_judged = len(report.rows_with("remark"))
    if not_judged:
        parts.append(f"{not_judged:,} not judged")
    names = ", ".join(report.datasets)
    yield from wrapped(f"{names}: {count(report.rows, 'row')}: {', '.join(parts)}")
    if report.without_gold:
        yield from wrapped(
            f"{count(report.without_gold, 'row')} without gold_command: nothing shows that a command "
            "can pass there",
            "  ",
        )
    for note in report.notes:
        yield from wrapped(f"note: {note}", "  ")
    yield from wrapped(
        f"{count(report.sandboxes_used, 'sandbox')}".replace("sandboxs", "sandboxes")
        + f" ({report.sandbox.get('kind', 'own')}), steps {report.steps}, {seconds(report.seconds)}",
        "  ",
    )
