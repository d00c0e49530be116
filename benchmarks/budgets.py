"""The budget guide: what each fixed budget costs on each kind of question, beside smaller images of as many tokens.

Answers questions of the test split unpruned, pruned by the default method and with resized images, and writes
results/budgets/MODEL.json: for every task and budget the share of the answers that differ from the unpruned model's,
and the points of accuracy lost. A run that was stopped continues. `readme.py` makes the table of docs/auto.md from it.

    python benchmarks/budgets.py --model bundled-qwen --tasks all
    python benchmarks/budgets.py --model bundled --tasks plain,crowd
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate.apps.evaluate.arms import EvalArm, PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.examples import sample_examples
from foveate.apps.evaluate.resized import ResizedEvalArm
from foveate.apps.evaluate.runner import evaluate
from foveate.method import resolve
from foveate.policy.risk import bound_rate
from foveate.runtime.load import load, quiet

RESULTS = Path(__file__).parent / "results" / "budgets"
KEEPS = (0.028, 0.056, 0.111, 0.25, 0.5)


def count_changes(whole: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The share of the answers that differ, with an interval of 95 %, and the points of accuracy lost."""
    n = len(whole)
    changed = sum(a["answer"] != b["answer"] for a, b in zip(whole, other, strict=True))
    lost = sum(a["right"] - b["right"] for a, b in zip(whole, other, strict=True))
    low, high = 1 - bound_rate(n - changed, n, 0.975), bound_rate(changed, n, 0.975)
    return {"changed": changed / n, "low": low, "high": high, "points_lost": 100 * lost / n}


def main() -> None:
    """Write the JSON of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--tasks", default="plain")
    parser.add_argument("--limit", type=int, default=100, help="questions of each task")
    parser.add_argument("--work", type=Path, default=Path("runs/budgets"), help="folder of the answers")
    options = parser.parse_args()
    method = resolve("foveate")
    arms: list[EvalArm] = [UnprunedEvalArm("unpruned", None)]
    arms += [PrunedEvalArm("foveate", keep, method=method) for keep in KEEPS]
    arms += [ResizedEvalArm("resize", keep) for keep in KEEPS]
    examples = sample_examples(options.tasks.split(","), "test", options.limit, 0)
    settings = {"model": options.model, "tasks": options.tasks, "limit": options.limit}
    with quiet():
        loaded = load(options.model)
    options.work.mkdir(parents=True, exist_ok=True)
    rows = evaluate(loaded, examples, arms, batch=20, out=options.work / options.model, settings=settings)
    record: dict[str, Any] = {**settings, "budgets": KEEPS, "tasks": {}}
    for task in dict.fromkeys(row["task"] for row in rows):
        by_arm = {arm.label: [row for row in rows if (row["task"], row["arm"]) == (task, arm.label)] for arm in arms}
        whole = by_arm["unpruned"]
        record["tasks"][task] = {
            "unpruned": sum(row["right"] for row in whole) / len(whole),
            **{label: count_changes(whole, other) for label, other in by_arm.items() if label != "unpruned"},
        }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{options.model}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
