"""Train low-rank adapters on clips and screens: `python -m training.clips --out runs/clips`.

`bundled-qwen` goes on with clips, histories of screenshots and some of the images that it knows. Its own weights stay;
what is learned are LoRA's products of two narrow matrices beside the linear layers of the vision encoder, the merger
and the language model (https://arxiv.org/abs/2106.09685). The same command, given again, resumes a run that stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset

from foveate.runtime.load import BUNDLED, load
from foveate.world.clip_inputs import make_clip_pixels
from foveate.world.clip_questions import CLIP_TASKS, make_clip_caption, make_clip_drill, make_clip_question
from foveate.world.clips import draw_frames, sample_clip
from foveate.world.drawing import draw_scene
from foveate.world.plain_questions import Question
from foveate.world.questions import sample_questions, tasks_of
from foveate.world.scenes import sample_scene
from foveate.world.screens import (
    SCREEN_TASKS,
    draw_shots,
    make_screen_caption,
    make_screen_drill,
    make_screen_question,
    sample_screens,
)
from training.adapter import AdapterTraining, add_low_rank
from training.build import MERGE, QWEN, make_qwen_image_processor
from training.data import TRAIN_STREAM, Head, make_visual_head, pack, sample_kind
from training.loop import run_stage
from training.moments import CLASSES, MomentLabels, make_clip_labels, make_no_labels, make_screen_labels
from training.plans import CROWDS, TrainingPlan, TrainingStage

NAME = "clips"  # of the stage
SCENES = {"scene": 2, "variety": 2, "crowd": 1, "shelf": 1, "fields": 1}


@dataclass(frozen=True)
class ClipStage(TrainingStage):
    """A stage on clips.

    Args:
        rows: Proportions of clips, histories of screenshots and images among the rows of a batch.
        clip_diet: Proportions of the tasks among the questions about a clip or a history.
    """

    rows: dict[str, int] = field(default_factory=dict)
    clip_diet: dict[str, int] = field(default_factory=dict)


STAGE = ClipStage(
    steps=1840,
    batch=6,
    horizon=1840,
    rate=6e-4,
    stream=60_000_000,
    questions=10,
    captions=2,
    drills=1,
    diet=CROWDS,
    scenes=SCENES,
    rows={"clip": 10, "screens": 6, "image": 2},
    clip_diet={
        "way": 2,
        "order": 4,
        "often": 3,
        "change": 7,
        "said": 1,
        "place": 1,
        "press": 6,
        "click": 1,
        "field": 1,
    },
)


@dataclass(frozen=True)
class ClipRow:
    """One row of a batch: pixels and their grid, the head with placeholders, and the questions."""

    pixels: Tensor
    grid: Tensor
    head: Head
    questions: list[Question]
    labels: MomentLabels


class ClipDataset(Dataset[dict[str, Tensor]]):
    """The batches of a stage on clips. Element `i` is the whole batch of step `i`, the same in a resumed run."""

    def __init__(self, stage: ClipStage, tokenizer: Any, seed: int) -> None:
        self.stage, self.tokenizer, self.stream = stage, tokenizer, 2 * seed + TRAIN_STREAM
        self.processor = make_qwen_image_processor()

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        first = self.stage.stream + step * self.stage.batch
        rng = random.Random(f"foveate clip questions {self.stream} {first}")
        kinds = rng.choices(list(self.stage.rows), list(self.stage.rows.values()), k=self.stage.batch)
        makers = {"clip": self._make_clip, "screens": self._make_screens, "image": self._make_image}
        rows = [makers[kind](first + i, rng) for i, kind in enumerate(kinds)]
        return {
            "pixel_values": torch.cat([row.pixels for row in rows]),
            "image_grid_thw": torch.cat([row.grid for row in rows]),
            **{name: torch.cat([row.labels[name] for row in rows]) for name in CLASSES},
            **pack([row.head for row in rows], [row.questions for row in rows], QWEN, self.tokenizer),
        }

    def _make_clip(self, index: int, rng: random.Random) -> ClipRow:
        clip = sample_clip(self.stream, index)
        questions = self._ask(lambda task: make_clip_question(clip, task, rng), CLIP_TASKS, rng)
        questions += [make_clip_drill(clip, rng) for _ in range(self.stage.drills)]
        questions += [make_clip_caption(clip, rng) for _ in range(self.stage.captions)]
        pixels, grid = make_clip_pixels(self.processor, draw_frames(clip)).values()
        return self._make_row("video", pixels, grid, questions, make_clip_labels(clip))

    def _make_screens(self, index: int, rng: random.Random) -> ClipRow:
        screens = sample_screens(self.stream, index)
        questions = self._ask(lambda task: make_screen_question(screens, task, rng), SCREEN_TASKS, rng)
        questions += [make_screen_drill(screens, rng) for _ in range(self.stage.drills)]
        questions += [make_screen_caption(screens, rng) for _ in range(self.stage.captions)]
        encoded = self.processor(draw_shots(screens), return_tensors="pt")
        labels = make_screen_labels(screens)
        return self._make_row("image", encoded["pixel_values"], encoded["image_grid_thw"], questions, labels)

    def _make_image(self, index: int, rng: random.Random) -> ClipRow:
        scene = sample_scene(self.stream, index, sample_kind(rng, self.stage.scenes))
        tasks = [task for task, share in self.stage.diet.items() for _ in range(share)]
        allowed = [task for task in tasks if task in tasks_of(scene)] or tasks_of(scene)
        encoded = self.processor([draw_scene(scene)], return_tensors="pt")
        questions = sample_questions(scene, allowed, self.stage.questions, rng)
        labels = make_no_labels(len(encoded["pixel_values"]) // MERGE**2)
        return self._make_row("image", encoded["pixel_values"], encoded["image_grid_thw"], questions, labels)

    def _ask(self, make: Any, tasks: tuple[str, ...], rng: random.Random) -> list[Question]:
        weights = [self.stage.clip_diet[task] for task in tasks]
        questions: list[Question] = []
        while len(questions) < self.stage.questions:
            question = make(rng.choices(tasks, weights)[0])
            if question is not None:
                questions.append(question)
        return questions

    def _make_row(
        self, modality: str, pixels: Tensor, grid: Tensor, questions: list[Question], labels: MomentLabels
    ) -> ClipRow:
        tokens = [(t, rows // MERGE, columns // MERGE) for t, rows, columns in grid.tolist()]
        return ClipRow(pixels, grid, make_visual_head(modality, tokens, QWEN, self.tokenizer), questions, labels)


def train(stage: ClipStage, out: Path, rank: int, seed: int, workers: int, start: Path | None = None) -> Path:
    """Train the adapter, resuming where `out` has a checkpoint; return the folder of the finished model.

    With a stage of no steps the model is that of the checkpoint. Without a checkpoint the weights are those of the
    adapter in the folder `start`, if there is one.
    """
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    loaded = load("bundled-qwen", dtype="float32")
    tokenizer = loaded.processor.tokenizer
    wrapped = add_low_rank(loaded.model.train(), rank)
    if start is not None:
        set_peft_model_state_dict(wrapped, load_file(start / "adapter_model.safetensors"))
    net = AdapterTraining(loaded.model, tokenizer)
    plan = replace(_PLAN, seed=seed, workers=workers)
    run_stage(NAME, net, stage, ClipDataset(stage, tokenizer, seed), plan, out)
    return save_adapter(wrapped, out / "model")


def save_adapter(wrapped: Any, folder: Path) -> Path:
    """Save the adapter, the tokenizer, and a configuration in which a moment of a clip is one position long."""
    wrapped.half().save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    adapter = json.loads((folder / "adapter_config.json").read_text())
    adapter["base_model_name_or_path"] = "bundled-qwen"  # PEFT writes a path there
    (folder / "adapter_config.json").write_text(json.dumps(adapter, indent=2) + "\n")
    base = BUNDLED["bundled-qwen"]
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"):
        shutil.copy(base / name, folder)
    config = json.loads((base / "config.json").read_text())
    config["vision_config"]["tokens_per_second"] = 1
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    chat = replace(QWEN, video="<|vision_start|><|video_pad|><|vision_end|>")
    (folder / "chat_template.jinja").write_text(chat.template())
    return folder


_NOTHING = TrainingStage(steps=0, batch=0, horizon=1, rate=0.0, stream=0)
_PLAN = TrainingPlan(_NOTHING, _NOTHING, _NOTHING, _NOTHING, None, None, likeness=0.0, save_every=50)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.clips", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/clips"), help="folder for checkpoints and the adapter")
    parser.add_argument("--steps", type=int, default=STAGE.steps, help="0 saves the model of the last checkpoint")
    parser.add_argument(
        "--horizon", type=int, help="step at which the learning rate has fallen; the last one if left out"
    )
    parser.add_argument("--rate", type=float, default=STAGE.rate)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="folder of an adapter to go on from, such as bundled-clips'")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    stage = replace(STAGE, steps=options.steps, horizon=options.horizon or options.steps, rate=options.rate)
    print(train(stage, options.out, options.rank, options.seed, options.workers, options.start))


if __name__ == "__main__":
    main()
