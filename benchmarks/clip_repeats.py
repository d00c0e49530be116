"""From which cosine on does a token of a clip repeat an earlier one? `foveate.pipeline.budget.REPEATS` was set by this.

`bundled-clips` answers questions of the dev split about drawn clips, with tokens chosen among those below each
threshold, and among all ("none"). Answers are kept in `--out`, where a stopped run goes on. Writes
results/clip_repeats.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clips import compare_pairs
from foveate.apps.evaluate import evaluate, sample_examples, summarize
from foveate.apps.evaluate.arms import ArmInputs, PrunedEvalArm
from foveate.apps.evaluate.settings import make_arms, parse_methods
from foveate.apps.results import read_versions
from foveate.method import resolve
from foveate.pipeline import budget
from foveate.runtime.load import load

if TYPE_CHECKING:
    from foveate.apps.evaluate.batches import EvalBatch

KEEPS, METHODS = (0.333, 0.167), ("foveate", "divprune")
THRESHOLDS = {"0.98": 0.98, "0.99": 0.99, "0.995": 0.995, "0.999": 0.999, "0.9999": 0.9999, "none": 2.0}


@dataclass(frozen=True)
class ThresholdEvalArm(PrunedEvalArm):
    """What a method keeps where a token above `threshold` is no candidate."""

    threshold: float = 0.0

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The result of `prune_inputs` with another `REPEATS`."""
        before, budget.REPEATS = budget.REPEATS, self.threshold
        try:
            return super().inputs(batch)
        finally:
            budget.REPEATS = before


def main() -> None:
    """Evaluate, print accuracies and differences to 0.98, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=20, help="questions of each task")
    parser.add_argument("--out", type=Path, default=Path("runs/clip_repeats"), help="folder of the answers")
    options = parser.parse_args()
    settings = {"split": "dev", "limit": options.limit}
    arms = [arm for arm in make_arms(parse_methods("foveate"), [KEEPS[0]], modality="video") if arm.name == "unpruned"]
    for keep in KEEPS:
        for name in METHODS:
            for label, threshold in THRESHOLDS.items():
                method = resolve(name)
                arms.append(ThresholdEvalArm(f"{name}, {label}", keep, method=method, threshold=threshold))
    examples = sample_examples(["clips"], "dev", options.limit)
    rows = evaluate(load("bundled-clips"), examples, arms, batch=20, out=options.out, settings=settings)
    names = [(f"{name}, {label}", f"{name}, 0.98") for name in METHODS for label in list(THRESHOLDS)[1:]]
    pairs = compare_pairs(rows, names, KEEPS)
    summary = summarize(rows).record()
    record = {**settings, "versions": read_versions(), **summary, "differences": pairs}
    (Path(__file__).parent / "results" / "clip_repeats.json").write_text(json.dumps(record, indent=1) + "\n")
    for arm in summary["arms"]:
        print("{name}, keep {keep}: {accuracy[value]:.3f}".format(**arm))
    for pair in pairs:
        print("{first} less {second}, keep {keep}: {value:+.3f} ({low:+.3f} to {high:+.3f})".format(**pair))


if __name__ == "__main__":
    main()
