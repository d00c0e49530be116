"""Train the model on SmolLM2: `python -m training.train_smol --out runs/smol`.

1. *align*: the connector alone, with captions.
2. *talk*: connector and low-rank adapters learn to answer questions in many wordings about scenes.
3. *heads*: linear heads learn to tell what the vision encoder's patches show.
4. *letters*: the vision encoder learns to see the letters of documents.
5. *views*: connector and adapters go on with pages, documents, diagrams and public questions too.

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
from foveate.world.scenes import sample_scene
from training.data import BatchDataset, pack, sample_kind, sample_scene_questions, stack_pixels
from training.language import LanguageTraining
from training.letters import LetterBatches
from training.loop import make_optimizers, run_stage, save_checkpoint
from training.pages import draw_in_one_tile
from training.plans import COUNTING, PLANS, RELATIONS, TrainingPlan, TrainingStage
from training.smol import SMOL, add_adapters, add_image_marks, build_smol, make_head, read_smol, save_smol
from training.train_tiled import HEADS
from training.views import ViewBatches
from training.vision import VisionPretraining, get_connector, get_tower
from training.whole import read_language_model, write_model
from training.wordings import reword

ALIGN = TrainingStage(
    steps=100, batch=8, horizon=400, rate=1e-3, stream=90_000_000, questions=12, captions=2, diet=COUNTING,
    scenes={"scene": 1, "variety": 1},
)  # fmt: skip
TALK = replace(ALIGN, steps=400, horizon=2400, rate=7e-4, stream=100_000_000, questions=16, captions=1)
VIEWS = replace(TALK, steps=1250, horizon=1250, rate=6e-4, stream=120_000_000, questions=14, drills=4, diet=RELATIONS)
LETTERS = TrainingStage(
    steps=900, batch=16, horizon=900, rate=1e-3, stream=140_000_000, scenes={"scene": 1, "variety": 1, "crowd": 2}
)
CHUNK = 8  # tiles that the vision encoder sees at once


class SmolTraining(LanguageTraining):
    """Connector and adapters."""

    def unfreeze(self, *, connector: bool, language: bool) -> None:
        """Let the connector, the adapters or both learn."""
        self.requires_grad_(False)
        for name, weight in self.model.named_parameters():
            weight.requires_grad_((connector and "projector" in name) or (language and "lora_" in name))


class ViewTraining(SmolTraining):
    """Connector and adapters; of the visual tokens only those in `kept` enter the prompt."""

    def _visual_tokens(self, batch: dict[str, Tensor]) -> Tensor:
        tower, layer = get_tower(self.model), self.model.config.vision_feature_layer
        with torch.no_grad():
            hidden = [tower(pixels, output_hidden_states=True) for pixels in batch["pixel_values"].split(CHUNK)]
        patches = torch.cat([out.hidden_states[layer][:, 1:] for out in hidden])
        tokens: Tensor = get_connector(self.model)(patches)
        return tokens.flatten(0, -2)[batch["kept"]]


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
        questions = [
            [reword(question, rng) for question in sample_scene_questions(scene, self.stage, rng)] for scene in scenes
        ]
        batch = pack([self.head] * len(scenes), questions, SMOL, self.tokenizer)
        return batch | {"pixel_values": stack_pixels([draw_in_one_tile(scene) for scene in scenes])}


def train(plan: TrainingPlan, out: Path, steps: int = VIEWS.steps, start: Path | None = None, done: int = 0) -> Path:
    """Run the stages, resuming where `out` has checkpoints; return the folder of what was trained.

    With `start` the last stage goes on from what that folder has, which was saved after `done` of its steps.
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
            run_stage("talk", net, TALK, WordedBatches(TALK, tokenizer, plan.seed), plan, out)
            vision = VisionPretraining(model)
            vision.requires_grad_(True).tower.requires_grad_(False)
            run_stage("heads", vision, HEADS, LetterBatches(HEADS, plan.seed), plan, out)
            vision.tower.requires_grad_(True)
            run_stage("letters", vision, LETTERS, LetterBatches(LETTERS, plan.seed), plan, out)
        else:
            read_smol(model, start)
        views = ViewTraining(model, tokenizer, likeness=0.0, sharpness=0.0)
        views.unfreeze(connector=True, language=True)
        if start is not None and not (out / "views.pt").exists():
            save_checkpoint(out / "views.pt", views, make_optimizers(views, VIEWS.rate), done)
        run_stage("views", views, replace(VIEWS, steps=steps), ViewBatches(VIEWS, tokenizer, plan.seed), plan, out)
    shipped = save_smol(model, tokenizer, out / "shipped")
    write_model(out / "model", shipped, tokenizer, language)
    return shipped


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train_smol", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/smol"), help="folder for checkpoints and the model")
    parser.add_argument("--steps", type=int, default=VIEWS.steps, help="of the last stage; 0 saves the last checkpoint")
    parser.add_argument("--start", type=Path, help="folder of what was trained before, for the last stage to go on")
    parser.add_argument("--done", type=int, default=0, help="steps of the last stage after which --start was saved")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    plan = replace(PLANS["llava"], seed=options.seed)
    print(train(plan, options.out, options.steps, options.start, options.done))


if __name__ == "__main__":
    main()
