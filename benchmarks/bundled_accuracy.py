"""How much accuracy of the bundled model each method keeps: python benchmarks/bundled_accuracy.py

Every row answers the same held-out questions, one a prompt. Intervals are 95 % bootstrap intervals over questions;
`difference` is paired against the unpruned model. Writes bundled_accuracy.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

import foveate
from foveate.load import load
from foveate.world.score import DEV, TEST, answers, by_kind, cases, right

KEEPS = (0.25, 0.1, 0.05)
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


def main() -> None:
    """Run every configuration at every budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--per-kind", type=int, default=250)
    parser.add_argument("--stream", choices=("dev", "test"), default="test")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    loaded = load(None)
    asked = cases({"dev": DEV, "test": TEST}[options.stream], options.per_kind)
    started = time.monotonic()
    unpruned = right(asked, answers(loaded.model, loaded.processor, asked))
    result: dict[str, Any] = {
        "stream": options.stream,
        "questions": len(asked),
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "foveate": foveate.__version__,
        },
        "unpruned": row(asked, unpruned, unpruned),
        "pruned": {},
    }
    print("unpruned", result["unpruned"], flush=True)
    for keep in KEEPS:
        for name, method in CONFIGURATIONS.items():
            marks = right(asked, answers(loaded.model, loaded.processor, asked, keep=keep, method=method))
            figures = row(asked, marks, unpruned)
            result["pruned"].setdefault(str(keep), {})[name] = figures
            print(
                keep, name, figures["accuracy"], figures["interval"], f"{time.monotonic() - started:.0f} s", flush=True
            )
            options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
