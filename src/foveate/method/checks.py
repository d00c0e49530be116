"""Checks of numbers that users pass."""

import math
from numbers import Integral, Real
from typing import TypeGuard

from foveate.errors import InputError


def is_int(value: object) -> TypeGuard[int]:
    """Whether this is an integer, of Python or NumPy, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is an integer or a float, of Python or NumPy, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_share(name: str, value: object) -> None:
    """Raise `InputError` unless this hyper-parameter is a number in [0, 1]."""
    if not is_number(value) or not 0 <= value <= 1:
        raise InputError(f"{name}={value!r} is not a share: use a float in [0, 1], such as 0.5.")


def check_between(name: str, value: object, low: float, high: float) -> None:
    """Raise `InputError` unless this hyper-parameter is a number in [low, high]."""
    if not is_number(value) or not low <= value <= high:
        raise InputError(f"{name}={value!r} is out of range: use a float from {low} to {high}.")


def check_positive(name: str, value: object) -> None:
    """Raise `InputError` unless this hyper-parameter is a finite number above 0."""
    if not is_number(value) or not 0 < value < math.inf:
        raise InputError(f"{name}={value!r} is out of range: use a float above 0, such as 0.2.")


def check_not_negative(name: str, value: object) -> None:
    """Raise `InputError` unless this hyper-parameter is a finite number of 0 or more."""
    if not is_number(value) or not 0 <= value < math.inf:
        raise InputError(f"{name}={value!r} is out of range: use a float of 0 or more, such as 1.0.")


def check_int(name: str, value: object, low: int) -> None:
    """Raise `InputError` unless this hyper-parameter is an integer of `low` or more."""
    if not is_int(value) or value < low:
        raise InputError(f"{name}={value!r} is out of range: use an int of {low} or more.")
