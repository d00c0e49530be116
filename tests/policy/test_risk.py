"""The bound beside exact binomial sums, and what a sequence of tests accepts."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from foveate.policy.risk import choose_cheapest, compute_p, count_needed


@pytest.mark.parametrize(
    ("losses", "n", "rate"), [(0, 299, "0.01"), (3, 400, "0.02"), (10, 2000, "0.01"), (60, 100, "0.5")]
)
def test_p_is_the_binomial_tail(losses, n, rate):
    p = Fraction(rate)
    exact = sum(comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(losses + 1))
    assert compute_p(losses, n, float(rate)) == pytest.approx(float(exact), rel=1e-9)


def test_p_of_every_answer_lost():
    assert compute_p(50, 50, 0.1) == 1.0


@pytest.mark.parametrize(("rate", "confidence"), [(0.01, 0.95), (0.005, 0.95), (0.05, 0.99)])
def test_needed_is_the_smallest_number_with_which_anything_passes(rate, confidence):
    needed = count_needed(rate, confidence)
    assert compute_p(0, needed, rate) <= 1 - confidence < compute_p(0, needed - 1, rate)


def test_cheapest_before_the_first_failure():
    assert choose_cheapest([0, 1, 2, 40, 0], 1000, 0.01, 0.95) == 2
    assert choose_cheapest([40, 0], 1000, 0.01, 0.95) is None


def test_the_promise_holds_as_often_as_it_says():
    """Settings whose true rates rise: the accepted one is above the promise in at most 5 % of the calibrations."""
    generator = np.random.default_rng(0)
    rates, n, promise = np.linspace(0, 0.05, 26), 1000, 0.02
    broken = 0
    for _ in range(400):
        uniform = generator.random(n)
        best = choose_cheapest([int((uniform < rate).sum()) for rate in rates], n, promise, 0.95)
        broken += best is not None and rates[best] > promise
    assert broken <= 400 * 0.05 + 2 * (400 * 0.05 * 0.95) ** 0.5
    assert broken > 0  # it uses what it may
