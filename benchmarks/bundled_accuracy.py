"""How much accuracy of the bundled model each method keeps: python benchmarks/bundled_accuracy.py

Every row answers the same held-out questions, one a prompt. Intervals are 95 % bootstrap intervals over questions;
`difference` is paired against the unpruned model. Writes bundled_accuracy.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.progress import track

import foveate
from foveate.load import load
from foveate.world.build import GRID
from foveate.world.score import DEV, TEST, answers, by_kind, cases, right

KEEPS = (0.25, 0.1, 0.05)
STRIDE = 160  # questions between two steps of the progress bar
CONFIGURATIONS: dict[str, Any] = {
    "zspaprune": foveate.ZSPAPrune(),
    "zspaprune, word_mean": foveate.ZSPAPrune(relevance="word_mean"),
    "zspaprune, word_max": foveate.ZSPAPrune(relevance="word_max"),
    "divprune": foveate.DivPrune(),
    "cdpruner": foveate.CDPruner(),
    "mmtok": foveate.MMTok(),
    "random": foveate.Random(),
    "grid": foveate.Grid(),
}


def interval(values: Sequence[float], rounds: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    rng = random.Random(0)
    means = sorted(sum(rng.choices(values, k=len(values))) / len(values) for _ in range(rounds))
    return round(means[int(0.025 * rounds)], 4), round(means[int(0.975 * rounds)], 4)


def row(asked: Sequence[Any], marks: Sequence[bool], unpruned: Sequence[bool]) -> dict[str, Any]:
    """The figures of one configuration."""
    difference = [float(a) - float(b) for a, b in zip(marks, unpruned, strict=True)]
    return {
        "accuracy": round(sum(marks) / len(marks), 4),
        "interval": interval([float(m) for m in marks]),
        "by_kind": {kind: round(share, 4) for kind, share in by_kind(asked, marks).items()},
        "difference": round(sum(difference) / len(difference), 4),
        "difference_interval": interval(difference),
    }


def tables(result: dict[str, Any]) -> str:
    """The README's two tables: accuracy by kind at a tenth of the tokens, and overall at every budget."""
    rows = result["rows"]
    kinds = list(rows["unpruned"]["by_kind"])
    lines = [f"| at 10 % | all | {' | '.join(kinds)} |", "|---" * (len(kinds) + 2) + "|"]
    for title, name in (("unpruned", "unpruned"), *((f"{m}", f"0.1 {m}") for m in CONFIGURATIONS)):
        shares = " | ".join(f"{rows[name]['by_kind'][kind]:.2f}" for kind in kinds)
        lines.append(f"| {title} | {_with_interval(rows[name])} | {shares} |")
    lines += [
        "",
        f"| all kinds | {' | '.join(f'{100 * keep:g} %' for keep in KEEPS)} |",
        "|---" * (len(KEEPS) + 1) + "|",
    ]
    for m in CONFIGURATIONS:
        lines.append(f"| {m} | {' | '.join(_with_interval(rows[f'{keep} {m}']) for keep in KEEPS)} |")
    return "\n".join(lines)


def _with_interval(figures: dict[str, Any]) -> str:
    low, high = figures["interval"]
    return f"{figures['accuracy']:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Run every configuration at every budget on the same questions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-kind", type=int, default=150)
    parser.add_argument("--stream", choices=("dev", "test"), default="test")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    loaded = load(None)
    asked = cases({"dev": DEV, "test": TEST}[options.stream], options.per_kind)
    settings: dict[str, Any] = {"unpruned": None}
    settings |= {f"{keep} {name}": {"keep": keep, "method": m} for keep in KEEPS for name, m in CONFIGURATIONS.items()}
    marks: dict[str, list[bool]] = {name: [] for name in settings}
    for start in track(range(0, len(asked), STRIDE), "questions"):
        some = asked[start : start + STRIDE]
        for name, given in answers(loaded.model, loaded.processor, some, settings).items():
            marks[name] += right(some, given)
    result: dict[str, Any] = {
        "command": f"python benchmarks/bundled_accuracy.py --per-kind {options.per_kind} --stream {options.stream}",
        "questions": len(asked),
        "visual_tokens": GRID**2,
        "versions": {p.__name__: p.__version__ for p in (torch, transformers, foveate)},
        "rows": {name: row(asked, marks[name], marks["unpruned"]) for name in settings},
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(tables(result))


if __name__ == "__main__":
    main()
