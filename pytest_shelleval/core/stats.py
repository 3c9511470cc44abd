"""Statistics of an evaluation, each with its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, comb, cos, fsum, pi, sin, sqrt

_Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, all as fractions."""

    value: float
    low: float
    high: float


def wilson_interval(successes: float, total: float) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion, as fractions; (0, 1) when *total* is 0.

    The counts are whole numbers, or fractions where *total* is an effective sample size.

    It keeps its coverage for few trials and for rates near 0 and 1, where the textbook interval
    does not: Wilson, Journal of the American Statistical Association 22 (1927) 209-212; Brown, Cai
    and DasGupta, Statistical Science 16 (2001) 101-133.
    """
    if total <= 0:
        return 0.0, 1.0
    rate, z2 = successes / total, _Z_95 * _Z_95
    centre = (rate + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z_95 * sqrt(rate * (1 - rate) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    # at the ends the exact value is 0 or 1; rounding must not miss it
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == total else centre + half
    return low, high


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The probability that one of *k* samples passes, estimated from *correct* of *samples*.

    The unbiased estimator 1 - C(n - c, k) / C(n, k) of Chen et al., "Evaluating Large Language
    Models Trained on Code" (2021), arXiv:2107.03374, section 2.1. Raises ValueError unless
    1 <= k <= samples and 0 <= correct <= samples.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} can't be estimated from {correct} of {samples} samples")
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def clustered_rate(rates: Sequence[float], draws: int | None = None) -> Estimate:
    """The mean of *rates*, one per task (its share of passes, or its pass@k), with its interval.

    Samples of one task resemble each other, so tasks are the clusters: the interval is Wilson's with
    the effective sample size rate (1 - rate) / SE^2, SE being the cluster-robust standard error
    without small-sample correction (Miller, "Adding Error Bars to Evals" (2024), arXiv:2411.00640;
    Franco, Little, Louis and Slud, Journal of Survey Statistics and Methodology 7 (2019) 334-364).
    With one sample per task it is Wilson's interval itself. *draws*, the number of independent draws
    behind the rates (the number of tasks, if None), bounds the effective size from above: tasks that
    happen to agree prove no more than that. For empty *rates* the interval is (0, 1).
    """
    tasks = len(rates)
    if not tasks:
        return Estimate(0.0, 0.0, 1.0)
    most = max(tasks if draws is None else draws, 1)
    mean = fsum(rates) / tasks
    variance = fsum((rate - mean) ** 2 for rate in rates) / tasks / tasks
    # all rates at 0 or at 1 have no variance; each task is then one trial
    at_the_end = mean in (0.0, 1.0)
    if at_the_end:
        size = float(tasks)
    else:
        size = min(mean * (1 - mean) / variance, most) if variance > 0 else float(most)
    low, high = wilson_interval(mean * size, size)
    return Estimate(mean, low, high)


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """McNemar's exact test, two-sided: the p value of *only_a* against *only_b* discordant pairs.

    The binomial test of the discordant pairs against one half: McNemar, Psychometrika 12 (1947)
    153-157; exact as in Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13 (2013) 91.
    1 if no pair is discordant. Raises ValueError on negative counts.
    """
    if min(only_a, only_b) < 0:
        raise ValueError("counts of pairs can't be negative")
    pairs, fewer = only_a + only_b, min(only_a, only_b)
    term = total = 1  # C(n, 0); integers, so that small tails are exact
    for number in range(1, fewer + 1):
        term = term * (pairs - number + 1) // number
        total += term
    return min(1.0, 2 * total / (1 << pairs))


def paired_difference(both: int, only_a: int, only_b: int, neither: int) -> Estimate:
    """The pass rate of b minus that of a over the same tasks, with its 95 % interval.

    Newcombe's square-and-add interval for paired proportions (method 10): Statistics in Medicine 17
    (1998) 2635-2650. Counts of tasks that passed in both runs, in a alone, in b alone, in none; (-1, 1)
    if there are no pairs. Raises ValueError on negative counts.
    """
    if min(both, only_a, only_b, neither) < 0:
        raise ValueError("counts of pairs can't be negative")
    pairs = both + only_a + only_b + neither
    if not pairs:
        return Estimate(0.0, -1.0, 1.0)
    passed_a, passed_b = both + only_a, both + only_b
    product = passed_a * (pairs - passed_a) * passed_b * (pairs - passed_b)
    surplus = float(both * neither - only_a * only_b)
    if surplus > 0:
        surplus = max(surplus - pairs / 2, 0.0)
    correlation = surplus / sqrt(product) if product else 0.0
    return _square_and_add(passed_a, passed_b, pairs, correlation)


def clustered_difference(differences: Sequence[float]) -> tuple[Estimate, float]:
    """The mean of *differences* of pass rates, one per task, with its 95 % interval and p value.

    For several samples per task: the paired t interval and test with tasks as units, which is the
    cluster-robust one of Miller (2024), arXiv:2411.00640, section 4. If all differences are equal
    there is no variance to estimate: the interval is then the paired one of as many tasks with the
    nearest table of whole counts. For fewer than two tasks: (-1, 1) and 1.
    """
    tasks = len(differences)
    mean = fsum(differences) / tasks if tasks else 0.0
    if tasks < 2:
        return Estimate(mean, -1.0, 1.0), 1.0
    variance = fsum((each - mean) ** 2 for each in differences) / (tasks - 1)
    if variance <= 1e-24:
        changed = round(abs(mean) * tasks)
        table = (0, changed) if mean > 0 else (changed, 0)
        bounds = paired_difference(tasks - changed, *table, 0)
        return Estimate(mean, bounds.low, bounds.high), mcnemar_exact(*table)
    error = sqrt(variance / tasks)
    half = t_quantile_975(tasks - 1) * error
    estimate = Estimate(mean, max(mean - half, -1.0), min(mean + half, 1.0))
    return estimate, t_two_sided(abs(mean) / error, tasks - 1)


def t_two_sided(t: float, freedom: int) -> float:
    """P(|T| > t) of Student's distribution with *freedom* >= 1 degrees, for t >= 0.

    Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    angle = atan(t / sqrt(freedom))
    square = cos(angle) ** 2
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    terms = [term] if freedom > 1 else []
    for k in range(2 + odd, freedom - 1, 2):
        term *= square * (k - 1) / k
        terms.append(term)
    inside = sin(angle) * fsum(terms)
    return max(0.0, 1 - (2 / pi * (angle + inside) if odd else inside))


def t_quantile_975(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution with *freedom* >= 1 degrees, to about 1e-11.

    From 500 degrees on by the expansion of Abramowitz and Stegun, 26.7.5; below by bisection.
    """
    if freedom < 1:
        raise ValueError("degrees of freedom start at 1")
    z = _Z_95
    if freedom >= 500:
        powers = (
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
            (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
        )
        return z + fsum(power / freedom**n for n, power in enumerate(powers, 1))
    low, high = 1.9, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_two_sided(middle, freedom) > 0.05 else (low, middle)
    return (low + high) / 2


def _square_and_add(passed_a: int, passed_b: int, pairs: int, correlation: float) -> Estimate:
    a, b = passed_a / pairs, passed_b / pairs
    low_a, high_a = wilson_interval(passed_a, pairs)
    low_b, high_b = wilson_interval(passed_b, pairs)
    down = _side(b - low_b, high_a - a, correlation)
    up = _side(high_b - b, a - low_a, correlation)
    difference = (passed_b - passed_a) / pairs
    return Estimate(difference, max(difference - down, -1.0), min(difference + up, 1.0))


def _side(x: float, y: float, correlation: float) -> float:
    return sqrt(max(x * x - 2 * correlation * x * y + y * y, 0.0))
