"""What the bundled model is trained on: batches of scenes with labels, questions and captions, each from its step."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from foveate.rewrite import IGNORED_LABEL
from foveate.world.build import GRID
from foveate.world.labels import patch_labels
from foveate.world.questions import Question, caption, sample_questions
from foveate.world.scenes import draw_scene, sample_scene

TRAIN_STREAM = 1  # scene streams: training and held-out data never meet


@dataclass(frozen=True)
class Stage:
    """One stage of training: what a batch holds, and how long and how fast it learns.

    `rate` falls by a cosine to a twentieth at step `horizon`; the stage may end earlier. `diet` names the questions
    that are asked about each picture, beside its `captions`. `stream` keeps the pictures of the stages apart.
    """

    steps: int
    batch: int
    horizon: int
    rate: float
    stream: int
    diet: tuple[str, ...] = ()
    captions: int = 0


@dataclass(frozen=True)
class Plan:
    """The run. The kinds of question that take longest to learn come more often, most of all in the last stage."""

    see: Stage = Stage(steps=1300, batch=32, horizon=1300, rate=1e-3, stream=0)
    talk: Stage = Stage(
        steps=3200, batch=8, horizon=6200, rate=1e-3, stream=10_000_000, captions=3,
        diet=("existence", "color", "shape", *("relation",) * 3, *("count",) * 3, *("reading",) * 2),
    )  # fmt: skip
    drill: Stage = Stage(
        steps=3600, batch=8, horizon=4000, rate=8e-4, stream=20_000_000, captions=1,
        diet=("existence", "color", "shape", *("relation",) * 6, *("count",) * 6, *("reading",) * 2),
    )  # fmt: skip
    warmup: int = 100
    align: float = 0.5
    sharpness: float = 10.0
    seed: int = 0
    workers: int = 1
    save_every: int = 200


class Steps(Dataset[dict[str, Tensor]]):
    """Item `i` is the whole batch of step `i`, so that a resumed run sees the very data it would have seen."""

    def __init__(self, plan: Plan, stage: Stage, tokenizer: PreTrainedTokenizerFast) -> None:
        self.plan, self.stage, self.tokenizer = plan, stage, tokenizer

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        stage, stream = self.stage, 2 * self.plan.seed + TRAIN_STREAM
        first = stage.stream + step * stage.batch
        scenes = [sample_scene(stream, first + i) for i in range(stage.batch)]
        pixels = np.stack([np.asarray(draw_scene(s), dtype=np.float32) for s in scenes])
        labels = [patch_labels(s, GRID) for s in scenes]
        batch = {"pixels": torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1}
        for name in ("shape", "color", "letter", "middle", "place"):
            batch[name] = torch.from_numpy(np.stack([getattr(label, name) for label in labels]))
        if stage.diet:
            rng = random.Random(f"foveate questions {stream} {first}")
            asked = [
                sample_questions(s, stage.diet, len(stage.diet), rng) + [caption(s, rng) for _ in range(stage.captions)]
                for s in scenes
            ]
            batch |= pack(asked, self.tokenizer)
        return batch


def pack(asked: list[list[Question]], tokenizer: PreTrainedTokenizerFast) -> dict[str, Tensor]:
    """One row a picture: the prefix with the image, then every question with its answer.

    Returns input_ids, position_ids, labels (b, L), captions (b, L), which marks the labels of captions, and the
    attention mask (b, 1, L, L), True = may look.
    """
    head = tokenizer(f"USER: {'<image>' * GRID**2}\n").input_ids
    rows = []
    for questions in asked:
        ids, positions, block = list(head), list(range(len(head))), [0] * len(head)
        labels, captions = [IGNORED_LABEL] * len(head), [False] * len(head)
        for number, question in enumerate(questions, start=1):
            prompt = tokenizer(f"{question.text} ASSISTANT:").input_ids
            reply = tokenizer(f" {question.answer}</s>").input_ids
            length = len(prompt) + len(reply)
            ids += prompt + reply
            positions += range(len(head), len(head) + length)
            block += [number] * length
            labels += [IGNORED_LABEL] * len(prompt) + reply
            captions += [question.kind == "caption"] * length
        rows.append((ids, positions, labels, captions, block))
    width = max(len(row[0]) for row in rows)
    fills = (tokenizer.pad_token_id, 0, IGNORED_LABEL, False, -1)
    padded = [torch.tensor([row[i] + [fill] * (width - len(row[i])) for row in rows]) for i, fill in enumerate(fills)]
    blocks = padded.pop()
    seen = (blocks[:, None, :] == 0) | (blocks[:, None, :] == blocks[:, :, None])
    mask = seen & torch.ones(width, width, dtype=torch.bool).tril()
    names = ("input_ids", "position_ids", "labels", "captions")
    return dict(zip(names, padded, strict=True)) | {"attention_mask": mask[:, None]}
