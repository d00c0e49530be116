"""The budget: how many tokens of an image `keep` stands for."""

import math
import warnings
from fractions import Fraction

from foveate.errors import FoveateWarning, KeepError, describe
from foveate.method.checks import check_int, is_int, is_number


def check_keep(keep: int | float) -> None:
    """Raise `KeepError` unless `keep` is an int >= 1 (tokens per image) or a float in (0, 1] (a share of them)."""
    rule = "use an int for tokens per image (keep=64), a float in (0, 1] for a share (keep=0.1)"
    if not is_number(keep):
        raise KeepError(f"keep={describe(keep)} is a {type(keep).__name__}: {rule}.")
    if is_int(keep):
        if keep < 1:
            raise KeepError(f"keep={keep} keeps no token: {rule}.")
    elif not 0 < keep <= 1:  # catches NaN and infinity as well
        raise KeepError(f"keep={keep} is not a share: {rule}.")


def to_budget(keep: int | float, n: int) -> int:
    """Convert `keep` into a number of tokens.

    Args:
        keep: An int is a number of tokens per image. A float is a share of `n`: `keep * n` is rounded to the nearest
            integer, halves up, and never below 1. 0.1 of 576 is 58. The share is read as the decimal that was typed:
            0.145 of 100 is 15, although the nearest float is below 0.145.
        n: How many tokens the image has.

    Returns:
        A number from 1 to `n`. If an int is larger than `n`, all tokens are kept, with a `FoveateWarning`.

    Raises:
        KeepError: `keep` is neither a number of tokens nor a share.
    """
    check_keep(keep)
    check_int("n", n, 0)
    if not is_int(keep):
        return max(1, math.floor(to_fraction(keep) * n + Fraction(1, 2)))
    if keep > n:
        warnings.warn(f"keep={keep} keeps all: the image has only {n} visual tokens.", FoveateWarning, stacklevel=2)
    return min(int(keep), n)


def to_fraction(share: float) -> Fraction:
    """Convert a share without binary rounding: 0.6 * 5 is exactly 3 and 0.29 * 100 is exactly 29."""
    return Fraction(repr(float(share)))
