"""Statistics against references and against their own definitions."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pytest_shelleval.core.stats import pass_at_k, wilson_interval


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
