"""What the tiled model has learned: right answers by the size of a page, from the checkpoints of its training.

The right answer is fed in token by token, on pages of the training's kind that the training does not reach. Adds a row
to results/tiles_by_size.json.

    python -m benchmarks.tiles_by_size --run runs/tiled
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch

import foveate
from foveate.world.pages import PAGE_TASKS
from training import pages
from training.tiled import THETA, TILE, build_tiled, build_tiled_tokenizer
from training.train_tiled import PAGES, PageTraining
from training.vision import VisionPretraining

OUT = Path(__file__).parent / "results" / "tiles_by_size.json"
IMAGES = {TILE: 16, 672: 8, 896: 5, 1344: 2, 2048: 2}  # of a batch
FULL = (672, 1344)  # sides of the pages that are shrunk to one tile
STREAM = 99_000_000


def load_checkpoints(run: Path, theta: float) -> tuple[PageTraining, int]:
    """The model at the last checkpoint, with rotations of this base, and the number of its step."""
    tokenizer = build_tiled_tokenizer()
    model = build_tiled(tokenizer, foveate.load("bundled", dtype=torch.float32).model)
    vision, net = VisionPretraining(model), PageTraining(model, tokenizer, likeness=0.0, sharpness=1.0)
    states = [torch.load(run / f"{name}.pt", map_location="cpu", weights_only=True) for name in ("sight", "pages")]
    vision.load_state_dict(states[0]["net"])
    net.load_state_dict(states[1]["net"])
    rates = model.model.language_model.rotary_emb.inv_freq
    rates.copy_(theta ** (-torch.arange(len(rates)) / len(rates)))
    return net.eval(), states[1]["done"]


@torch.no_grad()
def measure(net: PageTraining, side: int, batches: int, full: int = 672) -> dict[str, float]:
    """The share of right answers of each task, the mean over batches of pages of this size, or as `full` and shrunk."""
    shares = defaultdict(list)
    settings: dict[str, Any] = {"EASY": 0, "SHARES": {side: 1.0}, "WHOLE": {}, "SHRUNK_SHARES": {full: 1.0}}
    settings["IMAGES"] = {**pages.IMAGES, **IMAGES}
    with mock.patch.multiple(pages, **settings):
        data = pages.PageBatches(replace(PAGES, stream=STREAM), build_tiled_tokenizer(), 0)
        for number in range(batches):
            figures = net(data[number])[1]
            for task in figures.keys() & PAGE_TASKS:
                shares[task].append(figures[task])
    return {task: round(mean(values), 3) for task, values in sorted(shares.items())}


def main() -> None:
    """Add a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/tiled"), help="folder with sight.pt and pages.pt")
    parser.add_argument("--theta", type=float, default=THETA, help="base of the rotations")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    net, step = load_checkpoints(options.run, options.theta)
    sizes = {str(side): measure(net, side, options.batches) for side in IMAGES}
    sizes |= {f"{full}, shrunk": measure(net, pages.SHRUNK, options.batches, full) for full in FULL}
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    rows.append({"step": step, "theta": options.theta, "batches": options.batches, "sides": sizes})
    options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps(rows[-1]))


if __name__ == "__main__":
    main()
