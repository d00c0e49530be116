"""The shares of a history by age, against a list made by hand and the formula in exact numbers."""

from fractions import Fraction

import numpy as np
import pytest

import foveate
from foveate.errors import FoveateError
from foveate.method.recency import Recency


def test_by_hand():
    assert Recency().shares(3) == [0.1, 0.1, 1.0]
    assert Recency(0.8, 0.1, 0.5).shares(5) == [0.1, 0.1, 0.2, 0.4, 0.8]
    assert Recency(newest=0.5, older=0.5).shares(2) == [0.5, 0.5]
    assert Recency(1.0, 0.1, 1.0).shares(3) == [1.0, 1.0, 1.0]
    assert Recency().shares(0) == []


@pytest.mark.parametrize("fade", ["0", "0.3", "0.9", "1"])
def test_the_formula(fade):
    """0.7 * 0.1 is 0.07, not the float below it: shares are read as they were typed."""
    for age, share in enumerate(reversed(Recency(0.7, 0.02, float(fade)).shares(30))):
        assert share == float(max(Fraction("0.02"), Fraction("0.7") * Fraction(fade) ** age))


def test_a_long_history_costs_little():
    assert Recency(1.0, 0.001, 0.99).shares(100_000)[0] == 0.001


def test_floats_of_numpy_are_shares():
    assert Recency(np.float64(1.0), np.float32(0.5)).shares(2) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"newest": 1}, r"newest=1 is no share of an image: use a float in \(0, 1\]"), ({"newest": 1.5}, "newest=1.5"),
        ({"newest": float("nan")}, "newest=nan"), ({"older": 0.0}, "older=0.0"), ({"older": True}, "older=True"),
        ({"older": "0.1"}, "older='0.1'"), ({"newest": 0.05}, "older=0.1 is more than newest=0.05"),
        ({"fade": -0.1}, "fade=-0.1 is out of range"), ({"fade": 1.1}, "fade=1.1"), ({"fade": None}, "fade=None"),
        ({"fade": float("nan")}, "fade=nan"),
    ],
)  # fmt: skip
def test_wrong_shares(fields, message):
    with pytest.raises(FoveateError, match=message):
        foveate.Recency(**fields)
