"""What the bundled models are trained on: batches of pictures with labels, questions and captions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from foveate.models.sequence import IGNORED_LABEL
from foveate.world.drawing import draw_scene
from foveate.world.questions import DRILL, TASKS, Question, make_caption, make_drill, sample_questions, tasks_of
from foveate.world.scenes import CHARTS, Scene, sample_scene
from training.build import ARCHITECTURES, MERGE, PATCH, SIDE, Chat, qwen_pictures
from training.labels import patch_labels

TRAIN_STREAM = 1  # picture streams: training and held-out data never meet
CHART_SHARE = 0.22
SEEN_GROUND = 0.05  # of the empty tokens of a symbolic picture
MISSED = 0.1  # of the labels of a symbolic picture
BLUR = 0.1  # standard deviation of its places, in cells
MARKED = (*TASKS, DRILL)
"""What has a number in a batch's `task`: all that is marked right or wrong."""
SYMBOLS = ("form", "color", "glyph", "order", "place")


@dataclass(frozen=True)
class Stage:
    """One stage of training: what a batch holds, and how long and how fast it learns.

    `rate` falls by a cosine to a twentieth at step `horizon`; the stage may end earlier. `questions` are asked about
    each picture, of the tasks in the proportions of `diet`, beside its `captions` and `drills`. `stream` keeps the
    pictures of the stages apart; `scenes` are the proportions of their kinds among those that are no charts.
    """

    steps: int
    batch: int
    horizon: int
    rate: float
    stream: int
    questions: int = 0
    captions: int = 0
    drills: int = 0
    diet: dict[str, int] = field(default_factory=dict)
    scenes: dict[str, int] = field(default_factory=lambda: {"scene": 1})


def kind_of(rng: random.Random, scenes: dict[str, int]) -> str:
    """What kind of picture comes next."""
    if rng.random() < CHART_SHARE:
        return rng.choice(CHARTS)
    return rng.choices(list(scenes), list(scenes.values()))[0]


class Steps(Dataset[dict[str, Tensor]]):
    """Item `i` is the whole batch of step `i`, so that a resumed run sees the very data it would have seen.

    `shows`: "pictures" with their labels, "both" pictures and words, or "symbols" and words (labels in the picture's
    place).
    """

    def __init__(self, name: str, stage: Stage, tokenizer: PreTrainedTokenizerFast, shows: str, seed: int) -> None:
        self.name, self.stage, self.tokenizer, self.shows = name, stage, tokenizer, shows
        self.stream = 2 * seed + TRAIN_STREAM

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        stage, first = self.stage, self.stage.stream + step * self.stage.batch
        rng = random.Random(f"foveate questions {self.stream} {first}")
        scenes = [sample_scene(self.stream, first + i, kind_of(rng, stage.scenes)) for i in range(stage.batch)]
        batch = labels(self.name, scenes)
        if self.shows != "symbols":
            batch |= PIXELS[self.name](scenes)
        if self.shows != "pictures":
            tasks = [task for task, share in stage.diet.items() for _ in range(share)]
            asked = []
            for scene in scenes:
                fit = [task for task in tasks if task in tasks_of(scene)] or tasks_of(scene)
                count = stage.questions // 2 if scene.kind in CHARTS else stage.questions
                told = [make_caption(scene, rng) for _ in range(stage.captions)]
                told += [make_drill(scene, rng) for _ in range(stage.drills) if scene.kind not in CHARTS]
                asked.append(sample_questions(scene, fit, count, rng) + told)
            chat = ARCHITECTURES[self.name].chat
            heads = [HEADS[self.name](scene, chat, self.tokenizer) for scene in scenes]
            if self.shows == "symbols":
                batch, heads = symbols(self.name, batch, heads, self.tokenizer, np.random.default_rng(first))
            batch |= pack(heads, asked, chat, self.tokenizer)
        return batch


# -- pictures ------------------------------------------------------------------------------------------------------


def llava_pixels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """pixel_values (b, 3, SIDE, SIDE), as the processor makes them."""
    drawn = [draw_scene(s).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for s in scenes]
    pixels = np.stack([np.asarray(picture, dtype=np.float32) for picture in drawn])
    return {"pixel_values": torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1}


def qwen_pixels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """pixel_values (patches, values) and image_grid_thw (b, 3), as the processor makes them."""
    return dict(qwen_pictures()([draw_scene(s) for s in scenes], return_tensors="pt"))


PIXELS = {"llava": llava_pixels, "qwen": qwen_pixels}


def labels(name: str, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """The labels of all patches of all pictures in one row, in the order in which the vision tower gives them."""
    found: dict[str, list[np.ndarray]] = {}
    for scene in scenes:
        rows, columns = (SIDE // PATCH,) * 2 if name == "llava" else (scene.size[1] // PATCH, scene.size[0] // PATCH)
        each = patch_labels(scene, rows, columns, PATCH)
        for key in SYMBOLS:
            value = getattr(each, key)
            found.setdefault(key, []).append(value if name == "llava" else _merged(value, rows, columns))
        found.setdefault("picture", []).append(each.picture[None])
    return {key: torch.from_numpy(np.concatenate(values)) for key, values in found.items()}


def _merged(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Raster order -> the patches of one merged token after another."""
    blocks = values.reshape(rows // MERGE, MERGE, columns // MERGE, MERGE, *values.shape[1:])
    merged: np.ndarray = blocks.swapaxes(1, 2).reshape(values.shape)
    return merged


# -- words ---------------------------------------------------------------------------------------------------------

Head = tuple[list[int], list[tuple[int, ...]], int]
"""What all questions of a row see: ids, their positions on every axis, and the position that follows."""


def llava_head(_: Scene, chat: Chat, tokenizer: PreTrainedTokenizerFast) -> Head:
    """The picture's placeholders, counted."""
    ids = tokenizer(chat.before + chat.picture * (SIDE // PATCH) ** 2 + chat.after).input_ids
    return ids, [(i,) for i in range(len(ids))], len(ids)


def qwen_head(scene: Scene, chat: Chat, tokenizer: PreTrainedTokenizerFast) -> Head:
    """The picture's placeholders at their time, row and column."""
    columns, rows = (side // PATCH // MERGE for side in scene.size)
    before, pad = tokenizer(chat.before + "<|vision_start|>").input_ids, tokenizer("<|image_pad|>").input_ids
    start = len(before)
    ids = [*before, *pad * (rows * columns), *tokenizer("<|vision_end|>" + chat.after).input_ids]
    place: list[tuple[int, ...]] = [(i, i, i) for i in range(start)]
    place += [(start, start + row, start + column) for row in range(rows) for column in range(columns)]
    after = start + max(rows, columns)
    place += [(after + i,) * 3 for i in range(len(ids) - len(place))]
    return ids, place, after + len(ids) - start - rows * columns


HEADS = {"llava": llava_head, "qwen": qwen_head}


def symbols(
    name: str,
    batch: dict[str, Tensor],
    heads: Sequence[Head],
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
) -> tuple[dict[str, Tensor], list[Head]]:
    """The labels of the patches, imperfect as sight is, of all tokens that show something and of few others.

    Returns them, SYMBOLS of the kept tokens' patches in one row, and the heads without the other tokens.
    """
    per_token = 1 if name == "llava" else MERGE**2
    image = tokenizer.convert_tokens_to_ids(tokenizer.image_token)
    shown = (batch["form"].reshape(-1, per_token) > 0).any(1).numpy()
    kept = shown | (rng.random(len(shown)) < SEEN_GROUND)
    out = {key: batch[key][torch.from_numpy(kept.repeat(per_token))] for key in SYMBOLS}
    for key in ("form", "color", "glyph", "order"):
        out[key] = out[key] * torch.from_numpy(rng.random(len(out[key])) >= MISSED)
    out["place"] += BLUR * torch.from_numpy(rng.standard_normal(out["place"].shape, dtype=np.float32))
    left, shorter = iter(kept), []
    for ids, place, follows in heads:
        stays = [token != image or next(left) for token in ids]
        shorter.append(
            ([i for i, s in zip(ids, stays, strict=True) if s], [p for p, s in zip(place, stays, strict=True) if s],
             follows)
        )  # fmt: skip
    return out, shorter


def pack(
    heads: Sequence[Head], asked: Sequence[Sequence[Question]], chat: Chat, tokenizer: PreTrainedTokenizerFast
) -> dict[str, Tensor]:
    """One row a picture: what all see, then every question with its answer; each sees the head and itself only, at the
    positions it would have alone.

    Returns input_ids, labels (b, L), task (b, L), the number of the task of every label (-1 for captions), answer
    (b, L), which counts the questions of the batch, position_ids (axes, b, L), or (b, L) for one axis, and the
    attention mask (b, 1, L, L), True = may look. `shared` () places are heads in every row.
    """
    rows, number = [], 0
    for (head, place, follows), questions in zip(heads, asked, strict=True):
        ids, positions, block = list(head), list(place), [0] * len(head)
        targets, tasks, answers = [IGNORED_LABEL] * len(head), [-1] * len(head), [0] * len(head)
        for index, question in enumerate(questions, start=1):
            prompt = tokenizer(f"{question.text}{chat.reply}").input_ids
            reply = tokenizer(f" {question.answer}{chat.end}").input_ids
            length = len(prompt) + len(reply)
            ids += prompt + reply
            positions += [(i,) * len(place[0]) for i in range(follows, follows + length)]
            block += [index] * length
            targets += [IGNORED_LABEL] * len(prompt) + reply
            tasks += [MARKED.index(question.task) if question.task in MARKED else -1] * length
            answers += [number] * length
            number += 1
        rows.append((ids, targets, tasks, answers, block, positions))
    width = max(len(row[0]) for row in rows)
    fills: list[Any] = [tokenizer.pad_token_id, IGNORED_LABEL, -1, 0, -1, (0,) * len(heads[0][1][0])]
    padded = [torch.tensor([row[i] + [fill] * (width - len(row[i])) for row in rows]) for i, fill in enumerate(fills)]
    positions_, blocks = padded.pop().permute(2, 0, 1), padded.pop()
    seen = (blocks[:, None, :] == 0) | (blocks[:, None, :] == blocks[:, :, None])
    mask = seen & torch.ones(width, width, dtype=torch.bool).tril()
    out = dict(zip(("input_ids", "labels", "task", "answer"), padded, strict=True))
    out["shared"] = torch.tensor(min(len(head) for head, _, _ in heads))
    return out | {
        "position_ids": positions_[0] if len(positions_) == 1 else positions_,
        "attention_mask": mask[:, None],
    }
