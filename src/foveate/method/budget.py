"""How many tokens of an image to keep: `keep` as a number of tokens."""

import math
import warnings
from fractions import Fraction

from foveate.errors import FoveateWarning, KeepError
from foveate.method.checks import is_int, is_number


def check_keep(keep: int | float) -> None:
    """Raise `KeepError` unless `keep` is an int >= 1 (tokens per image) or a float in (0, 1] (a share of them)."""
    rule = "use an int for tokens per image (keep=64), a float in (0, 1] for a share (keep=0.1)"
    if not is_number(keep):
        raise KeepError(f"keep={keep!r} is a {type(keep).__name__}: {rule}.")
    if is_int(keep):
        if keep < 1:
            raise KeepError(f"keep={keep} keeps no token: {rule}.")
    elif not 0 < keep <= 1:  # catches NaN and infinity as well
        raise KeepError(f"keep={keep} is not a share: {rule}.")


def to_budget(keep: int | float, n: int) -> int:
    """How many of an image's `n` tokens to keep.

    An int counts tokens per image; more than `n` keeps all `n` and warns. A float is a share: `keep * n` rounded to the
    nearest token, halves up, and never below 1; 0.1 of 576 is 58. The share is read as the decimal that was typed, so
    that 0.145 of 100 is 15 although the nearest float lies below 0.145.

    Raises `KeepError` if `keep` is neither.
    """
    check_keep(keep)
    if not is_int(keep):
        return max(1, math.floor(share_of(keep, n) + Fraction(1, 2)))
    if keep > n:
        warnings.warn(f"keep={keep} keeps all: the image has only {n} visual tokens.", FoveateWarning, stacklevel=2)
    return min(int(keep), n)


def share_of(share: float, n: int) -> Fraction:
    """`share * n` without binary rounding: 0.6 * 5 is 3 and 0.29 * 100 is 29, not a hair beside."""
    return Fraction(repr(float(share))) * n
