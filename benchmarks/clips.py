"""Pruning clips and histories of screenshots: methods, what a budget is for, and repeats kept or not.

`bundled-clips` answers held-out questions about drawn clips (or `--tasks screens`). Beside the methods stand all
tokens, none, as many tokens of fewer frames, an even grid and random ones. "per frame" gives every frame the share;
"repeats" are candidates too, which `prune_inputs` never selects from a video. Screens have rows for shares by recency
and for markers too (`screen_arms.py`). Choose on `--split dev`, report on `--split test`. Answers are kept in `--out`,
where a stopped run goes on. Writes results/clips-<split>.json or screens-<split>.json.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from foveate.apps.evaluate import evaluate, sample_examples, summarize
from foveate.apps.evaluate.arms import ArmInputs, EvalArm, PrunedEvalArm
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.runner import Row
from foveate.apps.evaluate.settings import make_arms, parse_methods
from foveate.apps.evaluate.statistics import bootstrap_interval
from foveate.apps.results import read_versions
from foveate.method import resolve
from foveate.pipeline import budget
from foveate.pipeline.settings import Per
from foveate.runtime.load import load
from screen_arms import make_screen_arms

KEEPS = (0.333, 0.167, 0.083)
ALWAYS = [("foveate", "grid"), ("foveate", "random"), ("foveate, blind", "foveate")]
PAIRS = {  # rows whose difference is of interest, question by question
    "video": [
        *ALWAYS, ("foveate, repeats", "foveate"), ("divprune, repeats", "divprune"), ("vidcom2, repeats", "vidcom2"),
        ("foveate, per frame", "foveate"), ("divprune, per frame", "divprune"),
    ],
    "image": [
        *ALWAYS, ("foveate, most for the newest", "foveate"), ("foveate, markers", "foveate"),
        ("newest whole, older random", "newest whole, older foveate"),
        ("newest whole, older foveate, blind", "newest whole, older foveate"),
    ],
}  # fmt: skip
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


def make_clip_arms(modality: str) -> list[EvalArm]:
    """All arms of the table."""
    arms = make_arms(parse_methods(METHODS), list(KEEPS), modality=modality)
    per: Per = "frame" if modality == "video" else "prompt"
    for keep in KEEPS:
        for name in ("foveate", "divprune", "vidcom2"):
            method = resolve(name)
            arms.append(PrunedEvalArm(f"{name}, per {per}", keep, method=method, per=per))
            if modality == "video":
                arms.append(RepeatsEvalArm(f"{name}, repeats", keep, method=method))
    return arms if modality == "video" else [*arms, *make_screen_arms(KEEPS)]


def main() -> None:
    """Evaluate, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="clips", help="clips, screens, or some tasks of one of them")
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--limit", type=int, default=40, help="questions of each task")
    parser.add_argument("--out", type=Path, help="folder of the answers; runs/<tasks>-<split> if left out")
    options = parser.parse_args()
    settings = {"tasks": options.tasks, "split": options.split, "limit": options.limit}
    examples = sample_examples(options.tasks.split(","), options.split, options.limit)
    modality = examples[0].modality
    name = f"{'clips' if modality == 'video' else 'screens'}-{options.split}"
    out = options.out or Path("runs") / name
    rows = evaluate(load("bundled-clips"), examples, make_clip_arms(modality), batch=20, out=out, settings=settings)
    pairs = compare_pairs(rows, PAIRS[modality])
    record = {**settings, "versions": read_versions(), **summarize(rows).record(), "differences": pairs}
    path = Path(__file__).parent / "results" / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(format_table(record["arms"]))
    for pair in pairs:
        print("{first} less {second}, keep {keep}: {value:+.3f} ({low:+.3f} to {high:+.3f})".format(**pair))


def compare_pairs(
    rows: Sequence[Row], names: Sequence[tuple[str, str]], keeps: Sequence[float] = KEEPS
) -> list[dict[str, Any]]:
    """How much more often the first of two rows of the table is right, with its interval over questions."""
    scores: dict[tuple[str, float | None], dict[str, list[bool]]] = {}
    for row in rows:  # several seeds of a row are averaged
        scores.setdefault((row["name"], row["keep"]), {}).setdefault(row["id"], []).append(row["right"])
    means = {key: np.array([np.mean(own[name]) for name in sorted(own)]) for key, own in scores.items()}
    pairs = []
    for first, second in names:
        for keep in keeps:
            difference = means[first, keep] - means[second, keep]
            low, high = bootstrap_interval(difference)
            value = float(difference.mean())
            pairs.append({"first": first, "second": second, "keep": keep, "value": value, "low": low, "high": high})
    return pairs


def format_table(arms: list[dict[str, Any]]) -> str:
    """Write the accuracy of every arm as Markdown, a column for a budget, and the tasks of those with all tokens."""
    names = list(dict.fromkeys(arm["name"] for arm in arms if arm["keep"] is not None))
    cells = {(arm["name"], arm["keep"]): _format_score(arm["accuracy"]) for arm in arms}
    heads = ["", *(f"keep {keep}" for keep in KEEPS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm in arms:
        if arm["keep"] is None:
            lines.append(f"| {arm['name']} | {_format_score(arm['accuracy'])} | | |")
    lines += [f"| {name} | {' | '.join(cells.get((name, keep), '') for keep in KEEPS)} |" for name in names]
    whole = arms[0]["tasks"]
    lines += ["", f"| {' | '.join(whole)} |", "|---" * len(whole) + "|"]
    for name, keep in ((arms[0]["name"], None), ("foveate", KEEPS[0]), ("foveate", KEEPS[-1])):
        (own,) = [arm["tasks"] for arm in arms if (arm["name"], arm["keep"]) == (name, keep)]
        lines.append(f"| {' | '.join(_format_score(score) for score in own.values())} |")
    return "\n".join(lines)


def _format_score(score: dict[str, float]) -> str:
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


if __name__ == "__main__":
    main()
