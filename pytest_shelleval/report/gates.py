"""Gates for CI: pure functions from counts to a verdict and the line that explains it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pytest_shelleval.core.stats import clustered_rate
from pytest_shelleval.core.summary import ResultCounts
from pytest_shelleval.report.compare import Comparison, ModelComparison
from pytest_shelleval.report.words import count, p_text, percent, points

FailOn = Literal["regression", "significant-regression"]
_NAMED = 3  # tasks that a line names


class Gate(NamedTuple):
    """A gate's verdict and the one line that explains it."""

    met: bool
    line: str


class Limit(NamedTuple):
    """A parsed ``--shelleval-fail-under``: the fraction, and whether the interval's lower end counts."""

    rate: float
    lower: bool

    def __str__(self) -> str:
        return f"{'lower:' if self.lower else ''}{self.rate:g}"


def parse_limit(text: str) -> Limit:
    """``0.8`` or ``lower:0.8``. Raises ValueError that says what is expected."""
    prefix, _, number = text.rpartition(":")
    try:
        rate = float(number)
    except ValueError:
        rate = -1.0
    if prefix not in ("", "lower") or not 0 <= rate <= 1 or text.startswith(":"):
        raise ValueError("a fraction from 0 to 1 is expected, such as 0.8 or lower:0.8")
    return Limit(rate, prefix == "lower")


def fail_under(counts: ResultCounts, total: int, limit: Limit) -> Gate:
    """Whether every model's pass rate reaches *limit*.

    *total* is the number of selected commands. Errors count as not passed, so an error never helps;
    a partial run fails. With several samples the rate is pass@1; its interval is clustered by task.
    """
    option = f"--shelleval-fail-under={limit}"
    partial = _partial(counts, total)
    if partial:
        return _gate(False, f"{partial} ({option})")
    lines, met = [], True
    for model in counts.models:
        rates, draws = counts.task_rates(model)
        estimate = clustered_rate(rates, draws)
        found = estimate.low if limit.lower else estimate.value
        # a rate that is equal on paper must not fail by the last bit of a float
        met = met and found >= limit.rate - 1e-12
        passed = counts.count("passed", model)
        of = sum(key[1] == model for key in counts.outcomes)
        shown = f"pass rate {percent(estimate.value)} ({passed:,} of {of:,})"
        if limit.lower:
            shown = f"lower end of the 95 % interval {percent(estimate.low)}, {shown}"
        lines.append(f"{model}: {shown}" if len(counts.models) > 1 else shown)
    return _gate(met, f"{'; '.join(lines)}, {option}")


def max_errors(counts: ResultCounts, total: int, most: int) -> Gate:
    """Whether at most *most* commands ended as errors, and all of *total* were run."""
    option = f"--shelleval-max-errors={most}"
    partial = _partial(counts, total)
    if partial:
        return _gate(False, f"{partial} ({option})")
    errors = counts.count("error")
    kinds = ", ".join(f"{kind} {number}" for kind, number in counts.error_kinds().items())
    said = f"{count(errors, 'error')}" + (f" ({kinds})" if kinds else "")
    return _gate(errors <= most, f"{said} of {total:,}, {option}")


def fail_on(
    comparison: Comparison,
    counts: ResultCounts,
    total: int,
    what: FailOn,
    *,
    errors_allowed: bool = False,
) -> Gate:
    """Whether the run is no worse than its baseline, in *comparison* as run a.

    ``regression``: no task is broken, that is, passed in the baseline and fails now.
    ``significant-regression``: the pass rate has not fallen significantly, at the 5 % level. A task
    that passed and has no verdict now fails the gate too, unless *errors_allowed* (if
    ``--shelleval-max-errors`` decides on errors). A partial run never meets the gate, nor does one
    with nothing to compare.
    """
    option = f"--shelleval-fail-on={what}"
    partial = _partial(counts, total)
    if partial:
        return _gate(False, f"{partial} ({option})")
    lines, met = [], True
    for pair in comparison.models:
        good, said = _regression(pair, significant=what == "significant-regression")
        lost = _lost(pair)
        if good and lost and not errors_allowed:
            good = False
            said = f"{count(len(lost), 'task')} that passed ended in errors: {_names(lost)}"
        met = met and good
        lines.append(f"{pair.model_b or 'unknown'}: {said}" if len(comparison.models) > 1 else said)
    missing = [name or "unknown" for name in comparison.b.models]
    missing = [
        n for n in missing if n not in {pair.model_b or "unknown" for pair in comparison.models}
    ]
    if missing:
        lines.append(f"not in the baseline: {', '.join(missing)}")
    if not comparison.comparable:
        kinds = ", ".join(
            each.partition(":")[0].partition(" (")[0] for each in comparison.differences
        )
        lines.append(f"not comparable ({kinds})")
    return _gate(met, f"{'; '.join(lines)}, {option}")


def _regression(pair: ModelComparison, *, significant: bool) -> tuple[bool, str]:
    if not pair.tasks:
        return False, "no task has a verdict both in the baseline and now"
    if significant:
        worse = pair.significant and pair.difference.value < 0
        return not worse, f"pass rate {points(pair.difference)}, {p_text(pair.p_value)}"
    broken = [change.task_id for change in pair.of_kind("broken")]
    if broken:
        return False, f"{count(len(broken), 'regression')}: {_names(broken)}"
    return True, f"no regression in {count(pair.tasks, 'task')}"


def _lost(pair: ModelComparison) -> list[str]:
    """Tasks that passed in the baseline and ended as errors now."""
    return [
        change.task_id
        for change in pair.of_kind("no_verdict")
        if change.a is not None
        and change.b is not None
        and change.a.passed == change.a.scored > 0
        and not change.b.scored
    ]


def _names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _partial(counts: ResultCounts, total: int) -> str:
    recorded = len(counts.outcomes)
    if recorded >= total > 0:
        return ""
    if not total:
        return "nothing was run"
    return f"the run is partial: {total - recorded:,} of {total:,} were not run"


def _gate(met: bool, line: str) -> Gate:
    return Gate(met, f"gate {'passed' if met else 'FAILED'}: {line}")
