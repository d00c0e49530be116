"""Train the tiled model from the weights of `bundled`: `python -m training.train_tiled --out runs/tiled`.

1. *match*: the connector learns what `bundled`'s gives.
2. *sight*: the vision encoder goes on with pages: their tiles, and their overviews, in which objects are small.
3. *pages*: connector and language model learn to answer questions about pages of many tiles.

The same command, given again, resumes a run that stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import foveate
from foveate.world.scenes import sample_scene
from training.data import draw_llava_pixels
from training.language import LanguageTraining
from training.loop import run_stage
from training.pages import PageBatches, SightBatches
from training.plans import PLANS, TrainingPlan, TrainingStage
from training.tiled import build_tiled, build_tiled_tokenizer, match_connector, save_tiled
from training.vision import VisionPretraining, get_connector, get_tower

SIGHT = TrainingStage(
    steps=1600, batch=16, horizon=1600, rate=1e-3, stream=60_000_000, scenes={"scene": 1, "variety": 1, "crowd": 2}
)
MATCHED = 3000  # steps of the connector by itself
HEADS = replace(SIGHT, steps=60, horizon=60, rate=4e-3, stream=65_000_000)
PAGES = TrainingStage(
    steps=2500, batch=8, horizon=2600, rate=7e-4, stream=70_000_000, questions=10, scenes={"scene": 2, "variety": 1}
)


class PageTraining(LanguageTraining):
    """Connector and language model; of the visual tokens only those in `kept` enter the prompt."""

    def _visual_tokens(self, batch: dict[str, Tensor]) -> Tensor:
        kept = batch["kept"].view(len(batch["pixel_values"]), -1)
        parts = []
        with torch.no_grad():
            for pixels, flags in zip(batch["pixel_values"].split(8), kept.split(8), strict=True):
                hidden = self.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-2]
                parts.append(hidden[:, 1:][flags])
        tokens: Tensor = get_connector(self.model)(_square(torch.cat(parts)))
        return tokens.flatten(0, -2)[: int(kept.sum())]


def _square(features: Tensor) -> Tensor:
    """(1, side * side, width): the connector takes squares only, and treats every token by itself."""
    side = -int(-(len(features) ** 0.5) // 1)
    return F.pad(features, (0, 0, 0, side * side - len(features)))[None]


def train(plan: TrainingPlan, out: Path) -> Path:
    """Run the stages, resuming where `out` has checkpoints; return the folder of the finished model."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    bundled = foveate.load("bundled", dtype=torch.float32).model.eval()
    tokenizer = build_tiled_tokenizer()
    model = build_tiled(tokenizer, bundled)
    vision = VisionPretraining(model)
    _match(model, bundled, out / "match.pt")
    vision.tower.requires_grad_(False)
    run_stage("heads", vision, HEADS, SightBatches(HEADS, plan.seed), plan, out)
    vision.tower.requires_grad_(True)
    run_stage("sight", vision, SIGHT, SightBatches(SIGHT, plan.seed), plan, out)
    pages = PageTraining(model, tokenizer, likeness=0.0, sharpness=plan.sharpness)
    pages.unfreeze(connector=True, language=True)
    run_stage("pages", pages, PAGES, PageBatches(PAGES, tokenizer, plan.seed), plan, out)
    return save_tiled(model, tokenizer, out / "model")


def _match(model: Any, bundled: Any, path: Path) -> None:
    """Fit the connector on the features of ordinary scenes, once."""
    if not path.exists():
        scenes = [sample_scene(1, 80_000_000 + index, "crowd" if index % 2 else "scene") for index in range(128)]
        tower, parts = get_tower(bundled), draw_llava_pixels(scenes)["pixel_values"].split(16)
        with torch.no_grad():
            hidden = [tower(part, output_hidden_states=True).hidden_states[-2][:, 1:] for part in parts]
        missed = match_connector(model, bundled, torch.cat(hidden).flatten(0, 1), MATCHED)
        print(f"connector: {missed:.3f} of the variance missed", flush=True)
        torch.save(get_connector(model).state_dict(), path)
    get_connector(model).load_state_dict(torch.load(path, weights_only=True))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train_tiled", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tiled"), help="folder for checkpoints and the model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(train(replace(PLANS["llava"], seed=options.seed), options.out))


if __name__ == "__main__":
    main()
