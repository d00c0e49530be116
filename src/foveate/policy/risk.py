"""How sure a rate of losses is: the statistics behind the promise of a policy.

Learn-then-Test (Angelopoulos, Bates, Candes, Jordan, Lei, arXiv 2110.01052) with fixed-sequence testing: settings are
tested from the safest to the cheapest, each by a p-value for "the true rate of losses is above the promise", up to the
first that is not below 1 - confidence. With the stated confidence no accepted setting loses more than the promise, for
questions drawn as those of the calibration, whatever model and rule made the losses.
"""

import math
from collections.abc import Sequence


def compute_p(losses: int, n: int, rate: float) -> float:
    """The p-value for "the true rate is above `rate`": P(Binomial(n, rate) <= losses).

    Args:
        losses: How many of the questions were lost.
        n: How many questions there were.
        rate: The promised rate, in (0, 1).

    Returns:
        A probability in [0, 1].
    """
    if losses >= n:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        + k * math.log(rate) + (n - k) * math.log1p(-rate)
        for k in range(losses + 1)
    ]  # fmt: skip
    top = max(logs)
    return min(1.0, math.exp(top) * math.fsum(math.exp(log - top) for log in logs))


def count_needed(rate: float, confidence: float) -> int:
    """The questions without which nothing but keeping everything can be promised: with no loss in so many, p is low."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def choose_cheapest(losses: Sequence[int], n: int, rate: float, confidence: float) -> int | None:
    """The last setting of those that pass one after the other.

    Args:
        losses: How many questions each setting loses, from the safest setting to the cheapest.
        n: How many questions there were.
        rate: The promised rate, in (0, 1).
        confidence: The probability with which the promise holds, in (0, 1).

    Returns:
        The index of the cheapest setting before the first that fails; None if the safest fails.
    """
    best = None
    for index, count in enumerate(losses):
        if compute_p(count, n, rate) > 1 - confidence:
            break
        best = index
    return best


def bound_rate(losses: int, n: int, confidence: float) -> float:
    """The rate that the true one does not exceed, with this confidence (Clopper and Pearson's one-sided bound).

    Args:
        losses: How many of the questions were lost.
        n: How many questions there were.
        confidence: In (0, 1).
    """
    low, high = losses / n, 1.0
    while high - low > 1e-6 and losses < n:
        middle = (low + high) / 2
        low, high = (middle, high) if compute_p(losses, n, middle) > 1 - confidence else (low, middle)
    return high
