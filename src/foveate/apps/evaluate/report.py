"""The results of a run: a summary, Markdown tables and a plot, all from its rows alone."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from foveate.apps.evaluate.answers import ENCODED, Row
from foveate.apps.evaluate.statistics import (
    FEW,
    Scores,
    average_relative,
    bootstrap_interval,
    compute_bootstrap_p,
    compute_p,
    resample,
    take_percentiles,
)
from foveate.apps.results import draw_figure, write_file
from foveate.errors import InputError

UNPRUNED, BLIND = "unpruned", "none"
BLIND_SHARE = 0.9  # a task that keeps this share of its score without the image is no evidence about pruning
SERIES = 8  # lines of a plot with different colours and markers
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # by Okabe and Ito
MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class EvalScore:
    """A score and its 95 % interval, NaN where there are too few questions for one."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "-"
        spread = "too few" if math.isnan(self.low) else f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.value:.3f} ({spread})"


@dataclass(frozen=True)
class EvalArmSummary:
    """The results of an arm: `relative` to the unpruned model, averaged over tasks; `p` tests the difference to it.

    `encoded` is the mean share of the tiles that were encoded, of an arm that leaves some out.
    """

    name: str
    keep: int | float | str | None
    tokens: float
    accuracy: EvalScore
    tasks: dict[str, EvalScore]
    relative: EvalScore
    difference: EvalScore
    p: float
    encoded: float | None = None


@dataclass(frozen=True)
class EvalPair:
    """Two arms at the same budget: the paired difference of accuracy, and of mean relative accuracy."""

    keep: int | float | str | None
    first: str
    second: str
    difference: EvalScore
    p: float
    relative_difference: EvalScore
    relative_p: float


@dataclass(frozen=True)
class EvalSummary:
    """All figures of a run. `blind` are the tasks that keep 90 % of their score without the image."""

    questions: dict[str, int]
    arms: list[EvalArmSummary]
    pairs: list[EvalPair]
    blind: list[str]

    def record(self) -> dict[str, Any]:
        """The summary for JSON."""
        return {name: _round(value) for name, value in asdict(self).items()}


def _round(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _round(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_round(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


ArmKey = tuple[str, Any]
"""An arm's name and its budget."""


def summarize(rows: Sequence[Row]) -> EvalSummary:
    """The figures of a run's rows; arms that differ only in the seed are averaged for each question."""
    scores, tokens = _group_scores(rows)
    shares: dict[ArmKey, list[float]] = {}
    for row in rows:
        shares.setdefault((row["name"], row["keep"]), []).extend([row[ENCODED]] if ENCODED in row else [])
    keys, base, blind = list(next(iter(scores.values()))), (UNPRUNED, None), (BLIND, None)
    whole = {key: np.concatenate([arms[key] for arms in scores.values()]) for key in keys}
    rounds = dict(zip(keys, resample(list(whole.values())), strict=True))
    if len(whole[base]) < FEW:
        rounds = {key: np.full_like(each, math.nan) for key, each in rounds.items()}
    relative = average_relative(scores, base)

    def compare(first: ArmKey, second: ArmKey) -> tuple[EvalScore, float]:
        difference = _make_score((whole[first] - whole[second]).mean(), rounds[first] - rounds[second])
        return difference, compute_p(whole[first], whole[second])

    arms, pairs = [], []
    for key in keys:
        by_task = {
            task: EvalScore(float(arms[key].mean()), *bootstrap_interval(arms[key])) for task, arms in scores.items()
        }
        accuracy, tokens_seen = _make_score(whole[key].mean(), rounds[key]), float(np.mean(tokens[key]))
        difference, p = compare(key, base)
        ratio, encoded = _make_score(*relative[key]), float(np.mean(shares[key])) if shares[key] else None
        arms.append(EvalArmSummary(*key, tokens_seen, accuracy, by_task, ratio, difference, p, encoded))
    for one, two in combinations(keys, 2):
        if one[1] == two[1] is not None:
            spread = relative[one][1] - relative[two][1]
            ratio = _make_score(relative[one][0] - relative[two][0], spread)
            pairs.append(EvalPair(one[1], one[0], two[0], *compare(one, two), ratio, compute_bootstrap_p(spread)))
    is_blind = {
        task: blind in arms and arms[blind].mean() >= BLIND_SHARE * arms[base].mean() for task, arms in scores.items()
    }
    questions = {task: len(arms[base]) for task, arms in scores.items()}
    return EvalSummary(questions, arms, pairs, [task for task in questions if is_blind[task]])


def _make_score(value: float, rounds: Scores) -> EvalScore:
    return EvalScore(float(value), *take_percentiles(rounds))


def _group_scores(rows: Sequence[Row]) -> tuple[dict[str, dict[ArmKey, Scores]], dict[ArmKey, list[float]]]:
    """{task: {(name, keep): (n,)}}, questions in the same order, and the visual tokens of every answer."""
    marks: dict[str, dict[ArmKey, dict[str, list[float]]]] = {}
    tokens: dict[ArmKey, list[float]] = {}
    for row in rows:
        key = (row["name"], row["keep"])
        marks.setdefault(row["task"], {}).setdefault(key, {}).setdefault(row["id"], []).append(float(row["right"]))
        tokens.setdefault(key, []).append(float(row["tokens"]))
    scores: dict[str, dict[ArmKey, Scores]] = {}
    for task, arms in marks.items():
        order = list(next(iter(arms.values())))
        for (name, keep), by_question in arms.items():
            if set(by_question) != set(order):
                arm = name if keep is None else f"{name} @ {keep}"
                raise InputError(f"{arm} has not answered every question of {task}: let the run finish first.")
            scores.setdefault(task, {})[name, keep] = np.array([np.mean(by_question[each]) for each in order])
    return scores, tokens


def check_plot() -> None:
    """Raise `InputError` if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            "The plot needs matplotlib: pip install 'foveate[eval]', or leave it out with --no-plot."
        ) from error


def draw_plot(summary: EvalSummary, path: Path) -> None:
    """Write the plot into a file."""
    write_file(path, make_plot(summary))


def make_plot(summary: EvalSummary) -> bytes:
    """Accuracy against the budget, a line for each method, with shaded intervals where there are few lines, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(arm.name for arm in summary.arms if isinstance(arm.keep, (int, float))))
    for i, name in enumerate(names):
        fixed = [arm for arm in summary.arms if arm.name == name and not isinstance(arm.keep, str)]
        arms = sorted(fixed, key=lambda arm: arm.tokens)
        x, y = [arm.tokens for arm in arms], [arm.accuracy for arm in arms]
        color, style = COLORS[i % SERIES], ("-", "--", ":")[i // SERIES % 3]
        axes.plot(x, [a.value for a in y], style, color=color, marker=MARKERS[i % SERIES], ms=5, label=name)
        if len(names) <= SERIES:
            axes.fill_between(x, [a.low for a in y], [a.high for a in y], color=color, alpha=0.1)
    for arm in summary.arms:
        if arm.keep is None:
            axes.axhline(arm.accuracy.value, color="black", lw=0.8, ls="-" if arm.name == UNPRUNED else ":")
            label, where = "no image" if arm.name == BLIND else arm.name, axes.get_yaxis_transform()
            axes.text(0.995, arm.accuracy.value, label, transform=where, ha="right", va="bottom", fontsize=8)
    for arm in summary.arms:
        if isinstance(arm.keep, str):  # a policy: its budgets differ from question to question
            value, label = arm.accuracy, f"{arm.name} @ {arm.keep}"
            spread = [[max(0.0, value.value - value.low)], [max(0.0, value.high - value.value)]]  # rounding
            axes.errorbar([arm.tokens], [value.value], spread, fmt="*", ms=10, color="black", lw=0.8, label=label)
    axes.set_xscale("log")
    marked = [arm for arm in summary.arms if arm.name == "grid" or (not names and isinstance(arm.keep, str))]
    ticks = sorted({round(arm.tokens) for arm in marked})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("visual tokens, mean over the decoder's layers")
    axes.set_ylabel("accuracy")
    figure.legend(loc="outside right upper", fontsize=8)
    return draw_figure(figure)
