import itertools
import math

import numpy as np
import pytest

from foveate.apps.evaluate.statistics import (
    ROUNDS,
    average_relative,
    bootstrap_interval,
    bootstrap_statistic,
    compute_bootstrap_p,
    compute_p,
    resample,
    take_percentiles,
)


def marks(seed, n=40, share=0.7):
    return (np.random.default_rng(seed).random(n) < share).astype(float)


def test_the_interval_is_that_of_the_binomial():
    scores = np.array([1.0] * 70 + [0.0] * 30)
    low, high = bootstrap_interval(scores)
    assert low == pytest.approx(0.7 - 1.96 * math.sqrt(0.7 * 0.3 / 100), abs=0.012)
    assert high == pytest.approx(0.7 + 1.96 * math.sqrt(0.7 * 0.3 / 100), abs=0.012)
    assert bootstrap_interval(scores) == (low, high)
    assert bootstrap_interval(np.ones(10)) == (1.0, 1.0)


def test_a_few_questions_have_no_interval():
    """Neither has a ratio where the questions of some round hold no right answer."""
    assert np.isnan(bootstrap_interval(np.ones(9))).all()
    rare = {"color": {"whole": np.array([1.0] + [0.0] * 19), "pruned": np.ones(20)}}
    few = {"color": {"whole": np.ones(9), "pruned": np.ones(9)}}
    for scores in (rare, few):
        value, rounds = average_relative(scores, "whole")["pruned"]
        assert value == (20 if scores is rare else 1)
        assert np.isnan(take_percentiles(rounds)).all()
        assert math.isnan(compute_bootstrap_p(rounds))


def test_what_is_paired_stays_paired():
    first = marks(0)
    one, two, sum_ = resample([first, 1 - first, np.ones(40)])
    assert one.shape == (ROUNDS,)
    np.testing.assert_allclose(one + two, sum_)


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_against_its_closed_form(seed):
    first, second = marks(seed), marks(seed + 100, share=0.5)
    wins, losses = int((first > second).sum()), int((first < second).sum())
    n = wins + losses
    slow = sum(math.comb(n, i) for i in range(n + 1) if abs(i - n / 2) >= abs(wins - n / 2)) / 2**n
    assert compute_p(first, second) == pytest.approx(slow, rel=1e-9)
    assert compute_p(second, first) == compute_p(first, second)


def test_nothing_differs():
    assert compute_p(marks(0), marks(0)) == 1.0


def test_sign_flips_against_all_of_them():
    """Averages over three seeds."""
    draw = np.random.default_rng(1)
    first, second = draw.integers(0, 4, 12) / 3, draw.integers(0, 2, 12).astype(float)
    off = (first - second)[first != second]
    sums = [abs(np.dot(signs, off)) for signs in itertools.product((-1, 1), repeat=len(off))]
    exact = np.mean([value >= abs(off.sum()) - 1e-9 for value in sums])
    assert compute_p(first, second) == pytest.approx(exact, abs=0.015)


def test_mean_relative_is_the_mean_of_ratios():
    scores = {
        "color": {"whole": np.array([1.0, 1, 1, 0] * 9), "pruned": np.array([1.0, 0, 1, 0] * 9)},
        "count": {"whole": np.ones(10), "pruned": np.array([0.0, 1] * 5)},
        "never": {"whole": np.zeros(3), "pruned": np.ones(3)},
    }
    relative = average_relative(scores, "whole")
    assert relative["whole"][0] == 1.0
    np.testing.assert_allclose(relative["whole"][1], 1.0)
    assert relative["pruned"][0] == pytest.approx(((2 / 4) / (3 / 4) + (1 / 2) / 1) / 2)
    assert relative["pruned"][1].shape == (ROUNDS,)


def test_a_model_that_is_never_right_has_no_ratio():
    relative = average_relative({"color": {"whole": np.zeros(3), "pruned": np.ones(3)}}, "whole")
    assert math.isnan(relative["pruned"][0])
    assert np.isnan(relative["pruned"][1]).all()


def test_rounds_p():
    assert compute_bootstrap_p(np.ones(1999)) == pytest.approx(2 / 2000)
    assert compute_bootstrap_p(np.array([-1.0, 1.0] * 50)) == 1.0
    assert compute_bootstrap_p(np.zeros(10)) == 1.0


def test_the_interval_of_a_statistic_of_items():
    """Of a mean it is that of the normal distribution, and of a constant the constant."""
    items = [{"right": 1.0}] * 300 + [{"right": 0.0}] * 100
    low, high = bootstrap_statistic(items, lambda drawn: sum(item["right"] for item in drawn) / len(drawn))
    spread = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == (pytest.approx(0.75 - spread, abs=0.005), pytest.approx(0.75 + spread, abs=0.005))
    assert bootstrap_statistic(items, len) == (400.0, 400.0)
