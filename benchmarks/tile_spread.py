"""How many tiles `encode="auto"` encodes, by its two thresholds, and whether all that the question asks for is in them.

The first threshold says which tiles count as relevant, the second from which share of them on all are encoded. Only the
overviews are encoded and no answer is made, so it is cheap. Writes results/tile_spread.json.

    python benchmarks/tile_spread.py
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch

from foveate.apps.evaluate.batches import EvalBatch
from foveate.apps.evaluate.examples import sample_examples
from foveate.method import tiles as choosing
from foveate.models import family_of
from foveate.models.tile_encoder import Box
from foveate.pipeline import tiles
from foveate.pipeline.settings import check_settings
from foveate.runtime.load import load, quiet
from foveate.runtime.loaded import LoadedModel
from foveate.world.pages import PAGE_TASKS
from foveate.world.suite import HeldOutCase, sample_pages

OUT = Path(__file__).parent / "results" / "tile_spread.json"
SALIENT = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SPREAD = (0.3, 0.4, 0.5, 0.6, 0.7, 1.0)  # 1.0: there is no second threshold


def choose_tiles(loaded: LoadedModel, batch: EvalBatch) -> tuple[dict[str, list[int]], Sequence[Box]]:
    """The tiles that `encode="auto"` chooses with each pair of thresholds, and where each tile lies."""
    chosen: dict[str, list[int]] = {}
    family: Any = family_of(loaded.model)

    def record(*overview: Any) -> list[int]:
        for salient, spread in itertools.product(SALIENT, SPREAD):
            with mock.patch.multiple(choosing, SALIENT=salient, SPREAD=spread):
                chosen[f"{salient}, {spread}"] = choosing.choose_salient_tiles(*overview)
        return []

    with mock.patch.object(tiles, "choose_salient_tiles", record):
        tiles.encode_tiles(loaded.model, family, batch.inputs, check_settings(0.1, "foveate", encode="auto"))
    return chosen, family.split_images(loaded.model, batch.inputs)[0].boxes


def find_tiles(case: HeldOutCase, boxes: Sequence[Box]) -> set[int]:
    """The tiles in which the objects lie that the question asks for."""
    return {
        number
        for number, (top, left, bottom, right) in enumerate(boxes)
        for thing in case.question.things
        if top <= thing.y < bottom and left <= thing.x < right
    }


@torch.no_grad()
def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="bundled-tiles")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--sides", default="1344,2048")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with quiet():
        loaded = load(options.model, dtype=torch.float32)
    table: dict[str, dict[str, dict[str, float]]] = {}
    for side, task in itertools.product(map(int, options.sides.split(",")), PAGE_TASKS):
        cases = sample_pages(options.split, task, options.limit, options.seed, side)
        examples = sample_examples([task], options.split, options.limit, options.seed, side)
        shares, complete = defaultdict(list), defaultdict(list)
        for case, example in zip(cases, examples, strict=True):
            chosen, boxes = choose_tiles(loaded, EvalBatch(loaded, [example], []))
            wanted = find_tiles(case, boxes)
            for label, numbers in chosen.items():
                shares[label].append((1 + len(numbers)) / (1 + len(boxes)))
                if wanted:
                    complete[label].append(wanted <= set(numbers))
        table[f"{side}, {task}"] = {
            label: {"encoded": round(mean(own), 3), "complete": round(mean(complete[label]), 3)}
            for label, own in shares.items()
        }
    record = {"model": options.model, "split": options.split, "seed": options.seed, "questions": options.limit}
    options.out.write_text(json.dumps({**record, "tasks": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
