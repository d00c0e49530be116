"""The table and the figure of docs/tuning.md, from what `benchmarks/tuning.py --split test` left in results/tuning.

    python benchmarks/tuning_figure.py

Prints the table; writes results/tuning/accuracy.json and docs/tuning.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from foveate.apps.evaluate.statistics import Scores, bootstrap_interval, resample, take_percentiles

RESULTS = Path(__file__).parent / "results" / "tuning"
FIGURE = Path(__file__).parent.parent / "docs" / "tuning.png"
MODELS = ("bundled", "bundled-qwen")
STYLES = {"eval_loss": ("-", "2.8 %"), "eval_keep_1.0_loss": (":", "all tokens")}
SMOOTH = 5  # logged losses in a mean; every step has another budget


def read_runs(model: str) -> list[dict[str, Any]]:
    """The untuned model's result, then those of the seeds."""
    paths = [RESULTS / f"{model}-untuned-test.json", *sorted(RESULTS.glob(f"{model}-seed*-test.json"))]
    return [json.loads(path.read_text()) for path in paths]


def join(run: dict[str, Any], arm: str) -> Scores:
    """Right or wrong, of the questions of all tasks."""
    return np.concatenate([np.array(values, float) for values in run["right"][arm].values()])


def interval(scores: Scores) -> dict[str, float]:
    """The mean with its 95 % bootstrap interval over questions."""
    low, high = bootstrap_interval(scores)
    return {"value": float(scores.mean()), "low": low, "high": high}


def measure(model: str) -> dict[str, Any]:
    """For every budget the accuracies, the paired difference, and the share of the loss that is regained."""
    untuned, *tuned = read_runs(model)
    whole, record = join(untuned, "unpruned"), {}
    for arm in untuned["right"]:
        before, seeds = join(untuned, arm), [join(run, arm) for run in tuned]
        after: Scores = np.mean(seeds, axis=0)
        row: dict[str, Any] = {
            "untuned": interval(before), "seeds": [float(scores.mean()) for scores in seeds],
            "tuned": interval(after), "difference": interval(after - before),
            "tasks": {
                task: [float(np.mean(values)), float(np.mean([run["right"][arm][task] for run in tuned]))]
                for task, values in untuned["right"][arm].items()
            },
        }  # fmt: skip
        if len(record) == 1:  # the smallest budget; larger ones lose too little for a share of it
            rounds: list[NDArray[np.float64]] = resample([after - before, whole - before])
            low, high = take_percentiles(rounds[0] / np.maximum(rounds[1], 1e-9))
            share = float((after - before).mean() / (whole - before).mean())
            row["regained"] = {"value": share, "low": low, "high": high}
        record[arm] = row
    return record


def print_table(model: str, record: dict[str, Any]) -> None:
    """Markdown rows, then the tasks at the smallest budget."""
    for arm, row in record.items():
        value, pair = row["untuned"], row["difference"]
        regained = "{value:.0%} ({low:.0%} to {high:.0%})".format(**row["regained"]) if "regained" in row else ""
        print(
            f"| {model}, {arm.removeprefix('foveate @ ')} "
            f"| {value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f}) "
            f"| {', '.join(f'{seed:.3f}' for seed in row['seeds'])} "
            f"| {row['tuned']['value']:.3f} ({row['tuned']['low']:.3f} to {row['tuned']['high']:.3f}) "
            f"| {pair['value']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f}) | {regained} |"
        )
    for arm in [*record][:2]:
        tasks = [f"{task} {a:.2f} -> {b:.2f}" for task, (a, b) in record[arm]["tasks"].items()]
        print(f"{model}, {arm}: {', '.join(tasks)}")


def draw() -> None:
    """Training loss, and accuracy of the answers' tokens on held-out scenes, by step; a line for each seed."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for number, model in enumerate(MODELS):
        for run in read_runs(model)[1:]:
            log, first, color = run["log"], run["seed"] == 0, f"C{number}"
            steps, losses = zip(*[(row["step"], row["loss"]) for row in log if "loss" in row], strict=True)
            smooth = np.convolve(losses, np.ones(SMOOTH) / SMOOTH, "valid")
            axes[0].plot(steps[SMOOTH - 1 :], smooth, color=color, label=model if first else None, alpha=0.7)
            for name, (style, text) in STYLES.items():
                rows = [row for row in log if name in row]
                axes[1].plot(
                    [row["step"] for row in rows], [row["eval_mean_token_accuracy"] for row in rows], style,
                    color=color, label=f"{model}, {text}" if first else None, alpha=0.7,
                )  # fmt: skip
    axes[0].set(xlabel="step", ylabel="training loss, budgets as drawn", ylim=(0, None))
    axes[1].set(xlabel="step", ylabel="held out: tokens of answers right")
    for axis in axes:
        axis.legend(fontsize=7)
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    records = {model: measure(model) for model in MODELS}
    (RESULTS / "accuracy.json").write_text(json.dumps(records, indent=1) + "\n")
    for model, record in records.items():
        print_table(model, record)
    draw()


if __name__ == "__main__":
    main()
