"""Statistics against references and against their own definitions."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, t, ttest_1samp

from pytest_shelleval.core.stats import (
    clustered_difference,
    clustered_rate,
    mcnemar_exact,
    paired_difference,
    pass_at_k,
    t_quantile_975,
    t_two_sided,
    wilson_interval,
)

COUNTS = st.integers(0, 400)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_agrees_with_scipy(table: tuple[int, int]) -> None:
    successes, total = table
    expected = binomtest(successes, total).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(successes, total)
    assert math.isclose(low, expected.low, abs_tol=1e-9)
    assert math.isclose(high, expected.high, abs_tol=1e-9)


def test_wilson_interval_of_nothing_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_draws_with_a_pass(case: tuple[int, int, int]) -> None:
    samples, correct, k = case
    draws = list(itertools.combinations(range(samples), k))
    share = sum(min(draw) < correct for draw in draws) / len(draws)
    assert math.isclose(pass_at_k(samples, correct, k), share, abs_tol=1e-12)


@pytest.mark.parametrize("case", [(3, 1, 4), (3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_pass_at_k_refuses_what_can_not_be(case: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="can't be estimated"):
        pass_at_k(*case)


@given(COUNTS, COUNTS)
def test_mcnemar_agrees_with_scipy(only_a: int, only_b: int) -> None:
    pairs = only_a + only_b
    expected = binomtest(only_a, pairs).pvalue if pairs else 1.0
    assert math.isclose(mcnemar_exact(only_a, only_b), expected, rel_tol=1e-9)


def test_mcnemar_agrees_with_statsmodels() -> None:
    contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
    for only_a, only_b in [(0, 0), (1, 0), (5, 1), (12, 2), (59, 16), (300, 250)]:
        expected = contingency.mcnemar([[7, only_a], [only_b, 9]], exact=True).pvalue
        assert math.isclose(mcnemar_exact(only_a, only_b), expected, abs_tol=1e-9)


def test_mcnemar_holds_with_many_pairs() -> None:
    assert mcnemar_exact(10_000, 10_000) == 1.0
    assert 0 < mcnemar_exact(4_000, 5_000) < 1e-20


def newcombe_10(a: int, b: int, c: int, d: int) -> tuple[float, float]:
    """Method 10 as the paper writes it: rate 1 = (a + b) / n less rate 2 = (a + c) / n."""
    n = a + b + c + d
    first, second = a + b, a + c
    one = binomtest(first, n).proportion_ci(0.95, method="wilson")
    two = binomtest(second, n).proportion_ci(0.95, method="wilson")
    product = (a + b) * (c + d) * (a + c) * (b + d)
    phi = 0.0
    if product:
        over = a * d - b * c
        phi = (max(over - n / 2, 0) if over > 0 else over) / math.sqrt(product)
    dl1, du1 = first / n - one.low, one.high - first / n
    dl2, du2 = second / n - two.low, two.high - second / n
    theta = (b - c) / n
    delta = math.sqrt(max(dl1**2 - 2 * phi * dl1 * du2 + du2**2, 0))
    epsilon = math.sqrt(max(du1**2 - 2 * phi * du1 * dl2 + dl2**2, 0))
    return theta - delta, theta + epsilon


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_paired_difference_is_newcombe_s_method_10(a: int, b: int, c: int, d: int) -> None:
    if not a + b + c + d:
        return
    low, high = newcombe_10(a, b, c, d)
    found = paired_difference(both=a, only_a=c, only_b=b, neither=d)
    assert math.isclose(found.value, (b - c) / (a + b + c + d), abs_tol=1e-12)
    assert math.isclose(found.low, max(low, -1), abs_tol=1e-7)  # near a root of 0
    assert math.isclose(found.high, min(high, 1), abs_tol=1e-7)
    assert found.low <= found.value <= found.high


def test_paired_difference_gives_the_published_figures() -> None:
    """Newcombe (1998), the table 36, 12, 2, 0."""
    found = paired_difference(both=36, only_a=2, only_b=12, neither=0)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0569, 0.3404)


def test_paired_difference_of_nothing_says_nothing() -> None:
    found = paired_difference(0, 0, 0, 0)
    assert (found.low, found.high) == (-1, 1)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 10, 29, 30, 95, 499, 500, 1999, 19_999])
def test_student_agrees_with_scipy(freedom: int) -> None:
    assert math.isclose(t_quantile_975(freedom), t.ppf(0.975, freedom), abs_tol=1e-9)
    for value in (0.0, 0.3, 1.0, 2.5, 9.0):
        expected = 2 * t.sf(value, freedom)
        assert math.isclose(t_two_sided(value, freedom), expected, abs_tol=1e-9)


@given(st.lists(st.sampled_from([-1, -0.6, -0.2, 0, 0.2, 0.4, 1]), min_size=2, max_size=300))
def test_clustered_difference_agrees_with_scipy(differences: list[float]) -> None:
    found, p = clustered_difference(differences)
    if len(set(differences)) == 1:
        assert found.low <= found.value <= found.high
        assert found.low < found.high
        return
    expected = ttest_1samp(differences, 0)
    interval = expected.confidence_interval(0.95)
    assert math.isclose(p, expected.pvalue, abs_tol=1e-9)
    assert math.isclose(found.low, max(interval.low, -1), abs_tol=1e-9)
    assert math.isclose(found.high, min(interval.high, 1), abs_tol=1e-9)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clustered_rate_of_single_samples_is_wilson_s(table: tuple[int, int]) -> None:
    passed, total = table
    found = clustered_rate([1.0] * passed + [0.0] * (total - passed))
    low, high = wilson_interval(passed, total)
    assert math.isclose(found.low, low, abs_tol=1e-9)
    assert math.isclose(found.high, high, abs_tol=1e-9)


def test_clustered_rate_agrees_with_statsmodels() -> None:
    """The cluster-robust standard error, and Wilson's interval of the effective size."""
    api = pytest.importorskip("statsmodels.api")
    numpy = pytest.importorskip("numpy")
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    random = numpy.random.default_rng(7)
    for tasks, samples in [(5, 4), (40, 5), (96, 10), (300, 2)]:
        chances = random.beta(0.6, 0.5, tasks)
        passed = random.random((tasks, samples)) < chances[:, None]
        fit = api.OLS(passed.astype(float).ravel(), numpy.ones(tasks * samples)).fit(
            cov_type="cluster",
            cov_kwds={"groups": numpy.repeat(range(tasks), samples), "use_correction": False},
        )
        rate = passed.mean()
        size = min(rate * (1 - rate) / fit.bse[0] ** 2, tasks * samples)
        low, high = proportion.proportion_confint(rate * size, size, method="wilson")
        found = clustered_rate(passed.mean(axis=1).tolist(), tasks * samples)
        assert math.isclose(found.value, rate, abs_tol=1e-12)
        assert math.isclose(found.low, low, abs_tol=1e-9)
        assert math.isclose(found.high, high, abs_tol=1e-9)


@pytest.mark.parametrize("rates", [[], [0.0], [1.0] * 9, [0.5] * 9])
def test_clustered_rate_never_claims_certainty(rates: list[float]) -> None:
    found = clustered_rate(rates, draws=5 * len(rates))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)
    with pytest.raises(ValueError, match="negative"):
        paired_difference(1, -1, 2, 3)
    with pytest.raises(ValueError, match="start at 1"):
        t_quantile_975(0)
