"""Intervals and paired tests. Every random number comes from a seed, so that a table can be made again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
ROUNDS = 2000
CHUNK = 100  # rounds that are in memory at a time
Z = 0  # the seed of all resampling


def interval(scores: Scores) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of `scores` (n,), over questions."""
    return percentiles(resampled([scores])[0])


def percentiles(values: Scores) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile of the values of all rounds."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def resampled(rows: Sequence[Scores]) -> list[Scores]:
    """(ROUNDS,) means of every row of scores, all resampled alike: what is paired stays paired."""
    table = np.stack(rows)
    n = table.shape[1]
    draw = np.random.default_rng(Z)
    share = np.full(n, 1 / n)
    parts = [table @ draw.multinomial(n, share, CHUNK).T / n for _ in range(ROUNDS // CHUNK)]  # (rows, CHUNK)
    return list(np.concatenate(parts, axis=1))


def paired_p(first: Scores, second: Scores) -> float:
    """Two-sided p-value for equal means of paired scores.

    Scores of 0 and 1: McNemar's exact test, which is the sign test on the pairs that differ. Others (averages over
    seeds): a sign-flip permutation test of 9999 draws.
    """
    difference = first - second
    off = difference[difference != 0]
    if not len(off):
        return 1.0
    if np.isin(off, (-1.0, 1.0)).all():
        return _sign_test(int((off > 0).sum()), len(off))
    draw = np.random.default_rng(Z)
    seen, more = abs(off.sum()), 0
    for _ in range(9):
        signs = draw.integers(0, 2, (1111, len(off))) * 2 - 1
        more += int((abs(signs @ off) >= seen - 1e-9).sum())
    return (more + 1) / (9 * 1111 + 1)


def _sign_test(wins: int, n: int) -> float:
    """P(|X - n/2| >= |wins - n/2|) for X binomial(n, 1/2)."""
    tail = min(wins, n - wins)
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2) for i in range(tail + 1)]
    return min(1.0, 2 * math.fsum(math.exp(value) for value in logs))


def mean_relative(scores: dict[str, dict[str, Scores]], base: str) -> dict[str, tuple[float, Scores]]:
    """Accuracy relative to the arm `base`, averaged over tasks: {arm: (value, its values in ROUNDS rounds)}.

    `scores` are {task: {arm: (n,)}}, paired within a task; questions are resampled within tasks. A task where `base`
    has nothing right says nothing and is left out; where that is every task, all values are NaN.
    """
    tasks = [task for task, arms in scores.items() if arms[base].sum() > 0]
    if not tasks:
        nothing = np.full(ROUNDS, math.nan)
        return {arm: (math.nan, nothing) for arms in scores.values() for arm in arms}
    sums: dict[str, Any] = {}
    for task in tasks:
        arms = list(scores[task])
        rounds = dict(zip(arms, resampled([scores[task][arm] for arm in arms]), strict=True))
        below = np.maximum(rounds[base], 1e-9)
        for arm in arms:
            value = float(scores[task][arm].mean() / scores[task][base].mean())
            before = sums.get(arm, (0.0, np.zeros(ROUNDS)))
            sums[arm] = (before[0] + value / len(tasks), before[1] + rounds[arm] / below / len(tasks))
    return sums


def rounds_p(difference: Scores) -> float:
    """Two-sided bootstrap p-value that a difference is zero, from its values in all rounds."""
    n = len(difference)
    return min(1.0, 2 * (1 + min(int((difference <= 0).sum()), int((difference >= 0).sum()))) / (n + 1))
