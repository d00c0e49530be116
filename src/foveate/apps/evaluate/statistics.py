"""Intervals and paired tests. All random numbers have a fixed seed, so that a table can be reproduced."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Arm = TypeVar("Arm", bound=Hashable)
Item = TypeVar("Item")
Scores = NDArray[np.float64]
ROUNDS = 2000
CHUNK = 100  # rounds in memory at the same time
SEED = 0
FEW = 10  # questions: with fewer of them an interval says nothing


def bootstrap_interval(scores: Scores) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of `scores` (n,), over questions; NaN where there are too few."""
    if len(scores) < FEW:
        return math.nan, math.nan
    return take_percentiles(resample([scores])[0])


def bootstrap_statistic(items: Sequence[Item], statistic: Callable[[list[Item]], float]) -> tuple[float, float]:
    """95 % bootstrap interval of any statistic of `items`, one for each question."""
    generator, n = np.random.default_rng(SEED), len(items)
    rounds = (generator.integers(0, n, n) for _ in range(ROUNDS))
    return take_percentiles(np.array([statistic([items[i] for i in drawn]) for drawn in rounds]))


def take_percentiles(values: Scores) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile; NaN where a value is."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def resample(rows: Sequence[Scores]) -> list[Scores]:
    """(ROUNDS,) means of each row of scores; all rows are resampled alike, so that pairs stay pairs."""
    table = np.stack(rows)
    n = table.shape[1]
    generator = np.random.default_rng(SEED)
    share = np.full(n, 1 / n)
    parts = [table @ generator.multinomial(n, share, CHUNK).T / n for _ in range(ROUNDS // CHUNK)]  # (rows, CHUNK)
    return list(np.concatenate(parts, axis=1))


def compute_p(first: Scores, second: Scores) -> float:
    """Two-sided p-value for equal means of paired scores.

    Scores of 0 and 1: McNemar's exact test, which is the sign test on the pairs that differ. Others (averages over
    seeds): a sign-flip permutation test of 9999 draws.
    """
    difference = first - second
    unequal = difference[difference != 0]
    if not len(unequal):
        return 1.0
    if np.isin(unequal, (-1.0, 1.0)).all():
        return _compute_sign_p(int((unequal > 0).sum()), len(unequal))
    generator = np.random.default_rng(SEED)
    observed, extreme = abs(unequal.sum()), 0
    for _ in range(9):
        signs = generator.integers(0, 2, (1111, len(unequal))) * 2 - 1
        extreme += int((abs(signs @ unequal) >= observed - 1e-9).sum())
    return (extreme + 1) / (9 * 1111 + 1)


def _compute_sign_p(wins: int, n: int) -> float:
    """P(|X - n/2| >= |wins - n/2|) for X binomial(n, 1/2)."""
    tail = min(wins, n - wins)
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(tail + 1)]
    return min(1.0, 2 * math.fsum(math.exp(value) for value in logs))


def average_relative(scores: dict[str, dict[Arm, Scores]], base: Arm) -> dict[Arm, tuple[float, Scores]]:
    """Accuracy relative to the arm `base`, averaged over tasks: {arm: (value, its values in ROUNDS rounds)}.

    `scores` are {task: {arm: (n,)}}, paired within a task; questions are resampled within tasks. Tasks where `base` has
    no right answer are left out; without any other task, all values are NaN. Where the questions of a round hold no
    right answer of `base`, or a task has fewer than FEW questions, the round's value is NaN: there are too few.
    """
    tasks = [task for task, arms in scores.items() if arms[base].sum() > 0]
    if not tasks:
        nothing = np.full(ROUNDS, math.nan)
        return {arm: (math.nan, nothing) for arms in scores.values() for arm in arms}
    sums: dict[Arm, Any] = {}
    for task in tasks:
        arms = list(scores[task])
        rounds = dict(zip(arms, resample([scores[task][arm] for arm in arms]), strict=True))
        enough = (rounds[base] > 0) & (len(scores[task][base]) >= FEW)
        below = np.where(enough, rounds[base], np.nan)
        for arm in arms:
            value = float(scores[task][arm].mean() / scores[task][base].mean())
            before = sums.get(arm, (0.0, np.zeros(ROUNDS)))
            sums[arm] = (before[0] + value / len(tasks), before[1] + rounds[arm] / below / len(tasks))
    return sums


def compute_bootstrap_p(difference: Scores) -> float:
    """Two-sided bootstrap p-value of a difference of zero, from its values in all rounds; NaN where one is NaN."""
    if bool(np.isnan(difference).any()):
        return math.nan
    n = len(difference)
    return min(1.0, 2 * (1 + min(int((difference <= 0).sum()), int((difference >= 0).sum()))) / (n + 1))
