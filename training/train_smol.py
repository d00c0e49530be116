"""Train the model on SmolLM2: `python -m training.train_smol --out runs/smol`.

1. *align*: the connector alone, with captions.
2. *talk*: connector and low-rank adapters learn to answer questions in many wordings.

The same command, given again, resumes a run that stopped.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor

import foveate
from foveate.runtime.load import BUNDLED
from foveate.world.scenes import sample_scene
from training.data import BatchDataset, pack, sample_kind, stack_pixels
from training.language import LanguageTraining
from training.loop import make_optimizers, run_stage, save_checkpoint
from training.pages import draw_in_one_tile
from training.plans import COUNTING, PLANS, TrainingPlan, TrainingStage
from training.smol import SMOL, add_adapters, add_image_marks, build_smol, make_head, read_smol, save_smol
from training.whole import read_language_model, write_model
from training.wordings import reword

ALIGN = TrainingStage(
    steps=100, batch=8, horizon=400, rate=1e-3, stream=90_000_000, questions=12, captions=2, diet=COUNTING,
    scenes={"scene": 1, "variety": 1},
)  # fmt: skip
TALK = replace(ALIGN, steps=2400, horizon=2400, rate=7e-4, stream=100_000_000, questions=16, captions=1)


class SmolTraining(LanguageTraining):
    """Connector and adapters."""

    def unfreeze(self, *, connector: bool, language: bool) -> None:
        """Let the connector, the adapters or both learn."""
        self.requires_grad_(False)
        for name, weight in self.model.named_parameters():
            weight.requires_grad_((connector and "projector" in name) or (language and "lora_" in name))


class WordedBatches(BatchDataset):
    """Images of one tile with questions about them in many wordings. Element `i` is step `i`."""

    def __init__(self, stage: TrainingStage, tokenizer: Any, seed: int) -> None:
        super().__init__("llava", stage, tokenizer, "both", seed)
        self.head = make_head(tokenizer)

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        first = self.stage.stream + step * self.stage.batch
        rng = random.Random(f"foveate smol {self.stream} {first}")
        numbers = range(first, first + self.stage.batch)
        scenes = [sample_scene(self.stream, i, sample_kind(rng, self.stage.scenes)) for i in numbers]
        questions = [[reword(question, rng) for question in self._sample_questions(scene, rng)] for scene in scenes]
        batch = pack([self.head] * len(scenes), questions, SMOL, self.tokenizer)
        return batch | {"pixel_values": stack_pixels([draw_in_one_tile(scene) for scene in scenes])}


def train(plan: TrainingPlan, out: Path, steps: int = TALK.steps, start: Path | None = None, done: int = 0) -> Path:
    """Run the stages, resuming where `out` has checkpoints; return the folder of what was trained.

    Without checkpoints the second stage goes on from `start`, which was saved after `done` of its steps.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    tokenizer, language = read_language_model()
    add_image_marks(tokenizer)
    model = build_smol(tokenizer, language, foveate.load("bundled-tiles", dtype=torch.float32).model)
    add_adapters(model)
    net = SmolTraining(model.eval(), tokenizer, likeness=0.0, sharpness=0.0)
    for layer in model.model.language_model.layers:
        layer.compile(dynamic=True)
    with disable_input_dtype_casting(model):  # autocast does it; twice costs time
        if start is None:
            net.unfreeze(connector=True, language=False)
            run_stage("align", net, ALIGN, WordedBatches(ALIGN, tokenizer, plan.seed), plan, out)
        net.unfreeze(connector=True, language=True)
        if start is not None and not (out / "talk.pt").exists():
            read_smol(model, start)
            save_checkpoint(out / "talk.pt", net, make_optimizers(net, TALK.rate), done)
        run_stage("talk", net, replace(TALK, steps=steps), WordedBatches(TALK, tokenizer, plan.seed), plan, out)
    shipped = save_smol(model, tokenizer, out / "shipped")
    write_model(out / "model", shipped, BUNDLED["bundled-tiles"], tokenizer, language)
    return shipped


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train_smol", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/smol"), help="folder for checkpoints and the model")
    parser.add_argument(
        "--steps", type=int, default=TALK.steps, help="of the second stage; 0 saves the last checkpoint"
    )
    parser.add_argument("--start", type=Path, help="folder of what was trained before, where --out has no checkpoint")
    parser.add_argument("--done", type=int, default=0, help="steps of the second stage after which --start was saved")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    plan = replace(PLANS["llava"], seed=options.seed)
    print(train(plan, options.out, options.steps, options.start, options.done))


if __name__ == "__main__":
    main()
