"""Checks of numbers that users give."""

from numbers import Integral, Real
from typing import TypeGuard


def is_int(value: object) -> TypeGuard[int]:
    """An integer, NumPy's too, but no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """An integer or a float, NumPy's too, but no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)
