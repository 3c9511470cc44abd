"""Statistics of an evaluation, each with its source."""

from __future__ import annotations

from math import comb, sqrt

_Z_95 = 1.959963984540054  # 97.5 % quantile of the standard normal distribution


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion, as fractions; (0, 1) when *total* is 0.

    It holds its coverage for few trials and for rates near 0 and 1, where the textbook interval
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
