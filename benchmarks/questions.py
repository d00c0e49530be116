"""The cost of vLLM's caches being keyed by the question: several questions about one image, one after the other.

Unpruned, the second question reuses the image's KV from the prefix cache. Pruned for each question, the image is
encoded, pruned and prefilled again. Pruned by a method that ignores the question, it is not. Writes
results/serving/questions.json.

    .venv/engine/bin/python benchmarks/questions.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.apps.bench.figures import Spread
from foveate.apps.bench.settings import parse_budgets
from foveate.runtime.load import quiet

if TYPE_CHECKING:
    from foveate.apps.bench.served.run import VllmArm, VllmBench

OUT = Path(__file__).parent / "results" / "serving" / "questions.json"
MODEL, LAYERS, KEEP = "llava-1.5-7b", 2, "0.111"
METHODS = ("foveate", "divprune")
QUESTIONS, ROUNDS, NEW = 8, 5, 1
TEXT = "what is in the picture a red square on blue ground how many circles are there"


def make_prompts(bench: VllmBench, arm: VllmArm, seed: int) -> list[dict[str, Any]]:
    """Make prompts about one image with different questions."""
    noise = np.random.default_rng(seed).integers(0, 256, (*arm.size, 3), dtype=np.uint8)
    prompts, words = [], TEXT.split()
    for number in range(QUESTIONS):
        question = " ".join(words[number:] + words[:number])
        prompts.append(bench.make_prompt(noise, question, arm.options))
    return prompts


def main() -> None:
    """Measure in turns and write the results."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    from foveate.apps.bench.served.run import VllmBench

    with tempfile.TemporaryDirectory() as made, quiet():
        bench = VllmBench(MODEL, Path(made), LAYERS, None, None, NEW)
        arms = [arm for arm in bench.make_arms(parse_budgets(",".join(METHODS), KEEP)) if not arm.limit_of]
        seconds: dict[str, list[list[float]]] = {arm.name: [] for arm in arms}
        for turn in range(ROUNDS + 1):
            for arm in arms if turn % 2 else arms[::-1]:
                first = arm.server.serve(make_prompts(bench, arm, turn), 1, NEW).first
                if turn:  # the first is a warm-up
                    seconds[arm.name].append(first)
    whole = seconds[arms[0].name]
    rows = []
    for arm in arms:
        own = seconds[arm.name]
        totals = [
            [sum(a[:count]) / sum(b[:count]) for a, b in zip(own, whole, strict=True)]
            for count in range(1, QUESTIONS + 1)
        ]
        rows.append(
            {
                "arm": arm.name,
                "first_ms": 1000 * float(np.median([each[0] for each in own])),
                "later_ms": 1000 * float(np.median([part for each in own for part in each[1:]])),
                "total_times_unpruned_by_questions": [vars(Spread.from_values(total)) for total in totals],
            }
        )
    record = {"model": MODEL, "layers": LAYERS, "keep": KEEP, "rounds": ROUNDS, "arms": rows, "notes": bench.notes}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
