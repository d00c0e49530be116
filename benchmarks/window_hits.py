"""How much of the objects that a question is about lies in the windows that are chosen for it.

By how much of what is encoded is the smaller image, by what is looked at (a fifth of it as averages, or all of it), by
what scores its tokens (the model's attention, the question's words, or both) and by how a window counts (its best
token, or the mean); beside random windows. No answer is made, so it is cheap. Writes results/window_hits.json.

    python benchmarks/window_hits.py
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from ceiling import measure_cover
from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.method import Method, resolve
from foveate.method.scoring import score_peaked_tokens
from foveate.method.tokens import VisualTokens
from foveate.models import family_of, windows as plans
from foveate.models.patch_encoder import read_levels, write_levels
from foveate.models.windows import WindowPlan
from foveate.pipeline import windows
from foveate.pipeline.encode import Encoded
from foveate.pipeline.settings import check_settings
from foveate.runtime.load import load, quiet
from foveate.world.suite import HeldOutCase, sample_cases

OUT = Path(__file__).parent / "results" / "window_hits.json"
TASKS = ("crowd", "search", "lookup")
SHARES = (0.5, 0.4, 0.25)
LOOKS = {"averages": None, "all": 1.0}
GLANCES = {"1/2": Fraction(1, 2), "1/3": Fraction(1, 3), "2/3": Fraction(2, 3)}
PARTS = {"best": 0.0, "mean": 1.0}

Seen = tuple[VisualTokens, Sequence[Tensor]]


def look_at(batch: EvalBatch, share: float, look: float | None) -> tuple[list[WindowPlan], list[Seen]]:
    """The plan of each image, the tokens of its smaller image with the attention to them, and the windows' regions."""
    model, inputs, seen = batch.loaded.model, batch.inputs, list[Seen]()
    family: Any = family_of(model)

    def rank(_: Method, tokens: VisualTokens, regions: Sequence[Tensor]) -> list[int]:
        seen.append((tokens, regions))
        return list(range(len(regions)))

    settings = check_settings(0.1, "glance", encode=share)
    layouts = windows.plan_images(model, family, inputs, settings, None)
    coarse = family.encode(model, windows.shrink_images(model, family, inputs, layouts))
    write_levels(coarse, [windows._place(level, layouts) for level in read_levels(coarse)])
    with mock.patch.object(windows, "rank_tiles", rank), mock.patch.object(windows, "LOOK", look):
        windows._choose_windows(model, family, inputs, Encoded({"image": coarse}), layouts, settings)
    return layouts, seen


def score_tokens(tokens: VisualTokens) -> dict[str, Tensor]:
    """The relevance of every token, by what makes it."""
    both = resolve("glance").relevance_map(tokens)
    assert both is not None
    return {
        "attention": tokens.extra("attention"),
        "words": score_peaked_tokens(tokens.embeds, tokens.question),
        "both": both,
        "random": torch.rand(len(tokens.embeds), generator=torch.Generator().manual_seed(len(tokens.embeds))),
    }


def measure_hits(case: HeldOutCase, plan: WindowPlan, seen: Seen) -> dict[str, float]:
    """The share of what the question's objects cover that lies in the chosen windows, by the way to choose them."""
    tokens, regions = seen
    cover = measure_cover(case, *plan.grid[1:])
    hits = {}
    for what, relevance in score_tokens(tokens).items():
        for name, part in PARTS.items():
            values = [
                float(relevance[region].sort(descending=True).values[: max(1, round(part * len(region)))].mean())
                for region in regions
            ]
            ranking = sorted(range(len(values)), key=values.__getitem__, reverse=True)
            hits[f"{what}, {name}"] = float(cover[plan.mark(plan.choose(ranking))].sum() / cover.sum())
    return hits


@torch.no_grad()
def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled-qwen")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with quiet():
        loaded = load(options.model)
    cases = {case.id: case for task in TASKS for case in sample_cases(options.split, task, options.limit)}
    by_task = [sample_examples([task], options.split, options.limit) for task in TASKS]
    examples = [e for turn in zip(*by_task, strict=True) for e in turn if cases[e.id].question.things]
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for start in range(0, len(examples), 10):
        batch = EvalBatch(loaded, examples[start : start + 10], [])
        for share, (part, glance), (name, look) in itertools.product(SHARES, GLANCES.items(), LOOKS.items()):
            if part != "1/2" and look is None:
                continue
            with mock.patch.object(plans, "GLANCE", glance):
                layouts, seen = look_at(batch, share, look)
            for example, plan, own in zip(batch.examples, layouts, seen, strict=True):
                for label, hit in measure_hits(cases[example.id], plan, own).items():
                    table[f"{share}, {part}, {name}, {label}"][example.task].append(hit)
        means = {label: {t: sum(v) / len(v) for t, v in tasks.items()} for label, tasks in table.items()}
        record = {"model": options.model, "split": options.split, "questions": start + len(batch.examples)}
        options.out.write_text(json.dumps({**record, "hits": means}, indent=1) + "\n")


if __name__ == "__main__":
    main()
