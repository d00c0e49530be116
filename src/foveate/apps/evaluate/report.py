"""What a run says: a summary, Markdown tables and a plot, all from its rows alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from foveate.apps.evaluate.runner import Row
from foveate.apps.evaluate.statistics import Scores, interval, mean_relative, paired_p, percentiles, resampled, rounds_p
from foveate.errors import InputError

UNPRUNED, BLIND = "unpruned", "none"
BLIND_SHARE = 0.9  # a task that keeps this share of its score without the picture says nothing about pruning
SERIES = 8  # lines of a plot that have a colour and a marker of their own
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")  # Okabe and Ito's
MARKERS = "osD^vPX*"


@dataclass(frozen=True)
class EvalScore:
    """An accuracy and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return "-" if math.isnan(self.value) else f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class EvalArmSummary:
    """One way to answer: `relative` is to the unpruned model, averaged over tasks; `p` tests the difference to it."""

    name: str
    keep: int | float | None
    tokens: float
    accuracy: EvalScore
    tasks: dict[str, EvalScore]
    relative: EvalScore
    difference: EvalScore
    p: float


@dataclass(frozen=True)
class EvalPair:
    """Two ways to answer at the same budget: the paired difference of accuracy, and of mean relative accuracy."""

    keep: int | float | None
    first: str
    second: str
    difference: EvalScore
    p: float
    relative_difference: EvalScore
    relative_p: float


@dataclass(frozen=True)
class EvalSummary:
    """All figures of a run. `blind` are the tasks that keep 90 % of their score without the picture."""

    questions: dict[str, int]
    arms: list[EvalArmSummary]
    pairs: list[EvalPair]
    blind: list[str]

    def record(self) -> dict[str, Any]:
        """As JSON would have it."""
        found: dict[str, Any] = _rounded(asdict(self))
        return found


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


Key = tuple[str, Any]


def summarize(rows: Sequence[Row]) -> EvalSummary:
    """The figures of a run's rows; arms that differ in nothing but a seed are averaged question by question."""
    scores, tokens = _scores(rows)
    tasks = list(scores)
    whole = {key: np.concatenate([scores[task][key] for task in tasks]) for key in scores[tasks[0]]}
    base, keys = whole[UNPRUNED, None], list(whole)
    rounds = dict(zip(keys, resampled(list(whole.values())), strict=True))
    named = {task: {_label(key): value for key, value in arms.items()} for task, arms in scores.items()}
    relative = mean_relative(named, UNPRUNED)
    arms = []
    for key in keys:
        ratio, spread = relative[_label(key)]
        difference = EvalScore(float((whole[key] - base).mean()), *percentiles(rounds[key] - rounds[UNPRUNED, None]))
        each = {task: EvalScore(float(scores[task][key].mean()), *interval(scores[task][key])) for task in tasks}
        arms.append(
            EvalArmSummary(
                key[0],
                key[1],
                float(np.mean(tokens[key])),
                EvalScore(float(whole[key].mean()), *percentiles(rounds[key])),
                each,
                EvalScore(ratio, *percentiles(spread)),
                difference,
                paired_p(whole[key], base),
            )
        )
    pairs = []
    for i, one in enumerate(keys):
        for two in keys[i + 1 :]:
            if one[1] == two[1] and one[1] is not None:
                pairs.append(_pair(one, two, whole, rounds, relative))
    blind = [
        task
        for task in tasks
        if (BLIND, None) in whole and named[task][BLIND].mean() >= BLIND_SHARE * named[task][UNPRUNED].mean()
    ]
    return EvalSummary({task: len(scores[task][UNPRUNED, None]) for task in tasks}, arms, pairs, blind)


def _pair(one: Key, two: Key, whole: Any, rounds: Any, relative: Any) -> EvalPair:
    (first, many), (second, more) = relative[_label(one)], relative[_label(two)]
    return EvalPair(
        one[1], one[0], two[0],
        EvalScore(float((whole[one] - whole[two]).mean()), *percentiles(rounds[one] - rounds[two])),
        paired_p(whole[one], whole[two]), EvalScore(first - second, *percentiles(many - more)), rounds_p(many - more),
    )  # fmt: skip


def _label(key: Key) -> str:
    return key[0] if key[1] is None else f"{key[0]} @ {key[1]}"


def _scores(rows: Sequence[Row]) -> tuple[dict[str, dict[Key, Scores]], dict[Key, list[float]]]:
    """{task: {(name, keep): (n,)}}, questions in one order, and the visual tokens of every answer."""
    marks: dict[str, dict[Key, dict[str, list[float]]]] = {}
    tokens: dict[Key, list[float]] = {}
    for row in rows:
        key = (row["name"], row["keep"])
        marks.setdefault(row["task"], {}).setdefault(key, {}).setdefault(row["id"], []).append(float(row["right"]))
        tokens.setdefault(key, []).append(float(row["tokens"]))
    scores: dict[str, dict[Key, Scores]] = {}
    for task, arms in marks.items():
        order = list(next(iter(arms.values())))
        for key, found in arms.items():
            if set(found) != set(order):
                raise InputError(f"{_label(key)} has not answered every question of {task}: let the run finish first.")
            scores.setdefault(task, {})[key] = np.array([np.mean(found[name]) for name in order])
    return scores, tokens


def overview(summary: EvalSummary, figure: Literal["accuracy", "relative"]) -> str:
    """One table: a row a method, a column a budget, this figure of `EvalArmSummary` with its interval."""
    keeps = list(dict.fromkeys(arm.keep for arm in summary.arms if arm.keep is not None))
    found = {(arm.name, arm.keep): str(getattr(arm, figure)) for arm in summary.arms}
    lines = [f"| keep | {' | '.join(map(str, keeps))} |", "|---" * (len(keeps) + 1) + "|"]
    for name in dict.fromkeys(arm.name for arm in summary.arms):
        cells = [found.get((name, keep)) or found.get((name, None), "") for keep in keeps]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown(summary: EvalSummary) -> str:
    """The overviews, then a table a budget, with the whole and the blind model above each."""
    tasks = list(summary.questions)
    total = sum(summary.questions.values())
    intro = f"{total} questions ({', '.join(f'{task} {n}' for task, n in summary.questions.items())})."
    if summary.blind:
        intro += f" {', '.join(summary.blind)}: answered without the picture nearly as well; no evidence about pruning."
    lines = [intro, "", "Accuracy:", "", overview(summary, "accuracy")]
    lines += ["", "Accuracy relative to the unpruned model, mean of the tasks:", "", overview(summary, "relative")]
    for keep in dict.fromkeys(arm.keep for arm in summary.arms if arm.keep is not None):
        heads = [task + (" †" if task in summary.blind else "") for task in tasks]
        lines += ["", f"| keep {keep} | tokens | relative, mean of tasks | all | {' | '.join(heads)} | p |"]
        lines.append("|---" * (len(tasks) + 5) + "|")
        for arm in summary.arms:
            if arm.keep in (None, keep):
                shares = " | ".join(f"{arm.tasks[task].value:.3f}" for task in tasks)
                p = "" if arm.name == UNPRUNED else f"{arm.p:.1g}"
                lines.append(f"| {arm.name} | {arm.tokens:.0f} | {arm.relative} | {arm.accuracy} | {shares} | {p} |")
    lines += ["", "In brackets: 95 % bootstrap intervals over questions. p: paired test against the unpruned model."]
    return "\n".join(lines) + "\n"


def check_plot() -> None:
    """Raise `InputError` if there is nothing to plot with."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(
            "The plot needs matplotlib: pip install 'foveate[eval]', or leave it out with --no-plot."
        ) from error


def plot(summary: EvalSummary, path: Path) -> None:
    """Accuracy against the budget, one line a method; the intervals are shaded where there are few enough to see."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.8), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(arm.name for arm in summary.arms if arm.keep is not None))
    for i, name in enumerate(names):
        arms = sorted((arm for arm in summary.arms if arm.name == name), key=lambda arm: arm.tokens)
        x, y = [arm.tokens for arm in arms], [arm.accuracy for arm in arms]
        color, style = COLORS[i % SERIES], ("-", "--", ":")[i // SERIES % 3]
        axes.plot(x, [a.value for a in y], style, color=color, marker=MARKERS[i % SERIES], ms=5, label=name)
        if len(names) <= SERIES:
            axes.fill_between(x, [a.low for a in y], [a.high for a in y], color=color, alpha=0.1)
    for arm in summary.arms:
        if arm.keep is None:
            axes.axhline(arm.accuracy.value, color="black", lw=0.8, ls="-" if arm.name == UNPRUNED else ":")
            label, where = "no picture" if arm.name == BLIND else arm.name, axes.get_yaxis_transform()
            axes.text(0.995, arm.accuracy.value, label, transform=where, ha="right", va="bottom", fontsize=8)
    axes.set_xscale("log")
    ticks = sorted({round(arm.tokens) for arm in summary.arms if arm.name == "grid"})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("visual tokens, mean over the decoder's layers")
    axes.set_ylabel("accuracy")
    figure.legend(loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Software": None})
