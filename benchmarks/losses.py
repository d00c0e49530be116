"""Which answers pruning loses, by task and seed: right unpruned, wrong under the default, under the glance, or both.

Reads the answers that `make results` left in results/glance-* and results/seeds-*; writes results/losses.json.

    python benchmarks/losses.py
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveate.apps.evaluate.statistics import bootstrap_interval

RESULTS = Path(__file__).parent / "results"
MODELS = ("bundled", "bundled-qwen")
METHODS = ("foveate", "foveate, blind", "glance", "grid")
KEEPS = (0.111, 0.056)


def read_answers(model: str) -> dict[str, dict[str, dict[str, Any]]]:
    """By seed and question: its task, and whether each arm was right."""
    seeds: dict[str, dict[str, dict[str, Any]]] = {}
    for folder in sorted([RESULTS / f"glance-{model}", *RESULTS.glob(f"seeds-{model}-[0-9]*")]):
        settings = json.loads((folder / "run.json").read_text())
        questions: dict[str, dict[str, Any]] = defaultdict(dict)
        for line in (folder / "answers.jsonl").read_text().splitlines():
            row = json.loads(line)
            questions[row["id"]]["task"] = row["task"]
            questions[row["id"]][row["arm"]] = row["right"]
        seeds[str(settings["seed"])] = questions
    return seeds


def count_losses(questions: list[dict[str, Any]], keep: float) -> dict[str, Any]:
    """How many answers are right unpruned, and which of the two methods lose them."""
    right = [row for row in questions if row["unpruned"]]
    default, glance = ([not row[f"{name} @ {keep}"] for row in right] for name in ("foveate", "glance"))
    return {
        "questions": len(questions),
        "right_unpruned": len(right),
        "default_alone_loses": sum(a and not b for a, b in zip(default, glance, strict=True)),
        "glance_alone_loses": sum(b and not a for a, b in zip(default, glance, strict=True)),
        "both_lose": sum(a and b for a, b in zip(default, glance, strict=True)),
    }


def measure(model: str) -> dict[str, Any]:
    """Accuracy of each method by seed, and its losses by task, all seeds together."""
    seeds = read_answers(model)
    every = [row for questions in seeds.values() for row in questions.values()]
    record: dict[str, Any] = {"seeds": {}, "losses": {}}
    for keep in (None, *KEEPS):
        for name in METHODS if keep else ("unpruned",):
            arm = f"{name} @ {keep}" if keep else name
            groups = {**{seed: list(rows.values()) for seed, rows in seeds.items()}, "all": every}
            record["seeds"][arm] = {
                name: {**score([row[arm] for row in rows]), "questions": len(rows)} for name, rows in groups.items()
            }
    for keep in KEEPS:
        tasks = dict.fromkeys(row["task"] for row in every)
        record["losses"][str(keep)] = {
            **{task: count_losses([row for row in every if row["task"] == task], keep) for task in tasks},
            "all": count_losses(every, keep),
        }
    return record


def score(right: Sequence[float]) -> dict[str, float]:
    """The share of right answers, or the mean of differences, with its 95 % bootstrap interval."""
    value, low, high = float(np.mean(right)), *bootstrap_interval(np.array(right, float))
    return {"value": value, "low": low, "high": high}


def main() -> None:
    """Write the JSON."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    (RESULTS / "losses.json").write_text(json.dumps({model: measure(model) for model in MODELS}, indent=1) + "\n")


if __name__ == "__main__":
    main()
