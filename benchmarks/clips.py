"""Pruning clips and histories of screenshots: methods, what a budget is for, and repeats kept or not.

`bundled-clips` answers held-out questions about drawn clips (or `--tasks screens`). Beside the methods stand all
tokens, none, as many tokens of fewer frames, an even grid and random ones. "per frame" gives every frame the share;
"repeats" are candidates too, which `prune_inputs` never selects from a video. Choose on `--split dev`, report on
`--split test`. Answers are kept in `--out`, where a stopped run goes on. Writes results/<tasks>-<split>.json.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from foveate.apps.evaluate import evaluate, sample_examples, summarize
from foveate.apps.evaluate.arms import ArmInputs, EvalArm, PrunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.settings import make_arms, parse_methods
from foveate.apps.results import read_versions
from foveate.method import resolve
from foveate.pipeline import budget
from foveate.runtime.load import load

KEEPS = (0.333, 0.167, 0.083)
METHODS = "foveate,divprune,cdpruner,vidcom2"


@contextmanager
def keep_repeats() -> Iterator[None]:
    """Make no token a repeat: no cosine is above 2."""
    threshold = budget.REPEATS
    budget.REPEATS = 2.0
    try:
        yield
    finally:
        budget.REPEATS = threshold


@dataclass(frozen=True)
class RepeatsEvalArm(PrunedEvalArm):
    """What a method keeps where repeats are candidates."""

    def inputs(self, batch: EvalBatch) -> ArmInputs:
        """The result of `prune_inputs` without its rule on repeats."""
        with keep_repeats():
            return super().inputs(batch)


def make_clip_arms(tasks: str) -> list[EvalArm]:
    """All arms of the table."""
    modality = "video" if tasks == "clips" else "images"
    arms = make_arms(parse_methods(METHODS), list(KEEPS), modality=modality)
    per = "frame" if tasks == "clips" else "prompt"
    for keep in KEEPS:
        for name in ("foveate", "divprune", "vidcom2"):
            method = resolve(name)
            arms.append(PrunedEvalArm(f"{name}, per {per}", keep, method=method, per=per))
            if tasks == "clips":
                arms.append(RepeatsEvalArm(f"{name}, repeats", keep, method=method))
    return arms


def main() -> None:
    """Evaluate, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", choices=("clips", "screens"), default="clips")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--limit", type=int, default=40, help="questions of each task")
    parser.add_argument("--out", type=Path, help="folder of the answers; runs/<tasks>-<split> if left out")
    options = parser.parse_args()
    out = options.out or Path("runs") / f"{options.tasks}-{options.split}"
    settings = {"tasks": options.tasks, "split": options.split, "limit": options.limit}
    examples = sample_examples([options.tasks], options.split, options.limit)
    rows = evaluate(
        load("bundled-clips"), examples, make_clip_arms(options.tasks), batch=20, out=out, settings=settings
    )
    record = {**settings, "versions": read_versions(), **summarize(rows).record()}
    path = Path(__file__).parent / "results" / f"{options.tasks}-{options.split}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    for arm in record["arms"]:
        tasks = " ".join(f"{name} {score['value']:.2f}" for name, score in arm["tasks"].items())
        print(f"{arm['name']} @ {arm['keep']}: {arm['accuracy']['value']:.3f}, {arm['tokens']:.0f} tokens; {tasks}")


if __name__ == "__main__":
    main()
