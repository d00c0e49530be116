"""Batches of drawn images with labels, questions and captions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from foveate.models.sequence import IGNORED_LABEL
from foveate.world.clip_questions import CLIP_TASKS
from foveate.world.drawing import draw_scene
from foveate.world.pages import PAGE_TASKS
from foveate.world.plain_questions import Question
from foveate.world.questions import DRILL, TASKS, make_caption, make_drill, sample_questions, tasks_of
from foveate.world.scenes import CHARTS, DENSE, Scene, sample_scene
from foveate.world.screens import SCREEN_TASKS
from foveate.world.suite import DOCUMENT_TASKS
from training.build import ARCHITECTURES, MERGE, PATCH, SIDE, ChatFormat, make_qwen_image_processor
from training.labels import make_patch_labels
from training.plans import TrainingStage

TRAIN_STREAM = 1  # training draws from odd streams, held-out questions from even ones
CHART_SHARE = 0.22
EMPTY_SHARE = 0.05  # share of the empty visual tokens that symbols keep
MISSING_SHARE = 0.1  # share of labels that symbols leave out
BLUR = 0.1  # standard deviation of the error in the symbols' places, in cells
MARKED = (*TASKS, DRILL, *CLIP_TASKS, *SCREEN_TASKS, *PAGE_TASKS, *DOCUMENT_TASKS, "public")
"""Tasks whose answers are right or wrong. A batch's `task` holds their numbers in this order."""
SYMBOLS = ("form", "color", "glyph", "order", "place")


def sample_kind(rng: random.Random, scenes: dict[str, int]) -> str:
    """Sample the kind of the next scene: a chart, or one of `scenes` in their proportions."""
    if rng.random() < CHART_SHARE:
        return rng.choice(CHARTS)
    return rng.choices(list(scenes), list(scenes.values()))[0]


class BatchDataset(Dataset[dict[str, Tensor]]):
    """The batches of a stage. Element `i` is the whole batch of step `i`, the same in a resumed run.

    `content` is "images" (with their labels), "both" (images and text) or "symbols" (labels in place of images, and
    text).
    """

    def __init__(
        self, name: str, stage: TrainingStage, tokenizer: PreTrainedTokenizerFast, content: str, seed: int
    ) -> None:
        self.name, self.stage, self.tokenizer, self.content = name, stage, tokenizer, content
        self.stream = 2 * seed + TRAIN_STREAM

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        stage, first = self.stage, self.stage.stream + step * self.stage.batch
        rng = random.Random(f"foveate questions {self.stream} {first}")
        scenes = [sample_scene(self.stream, first + i, sample_kind(rng, stage.scenes)) for i in range(stage.batch)]
        batch = make_labels(self.name, scenes)
        if self.content != "symbols":
            batch |= PIXELS[self.name](scenes)
        if self.content != "images":
            questions = [sample_scene_questions(scene, stage, rng) for scene in scenes]
            chat = ARCHITECTURES[self.name].chat
            heads = [HEADS[self.name](scene, chat, self.tokenizer) for scene in scenes]
            if self.content == "symbols":
                batch, heads = make_symbols(self.name, batch, heads, self.tokenizer, np.random.default_rng(first))
            batch |= pack(heads, questions, chat, self.tokenizer)
        return batch


def sample_scene_questions(scene: Scene, stage: TrainingStage, rng: random.Random) -> list[Question]:
    """Sample the questions, captions and drills about a scene that a stage has."""
    other = [make_caption(scene, rng) for _ in range(stage.captions)]
    other += [make_drill(scene, rng) for _ in range(stage.drills) if scene.kind not in (*CHARTS, *DENSE)]
    return sample_from_diet(scene, stage.diet, stage.questions, rng) + other


def sample_from_diet(scene: Scene, diet: dict[str, int], count: int, rng: random.Random) -> list[Question]:
    """Sample `count` questions about a scene, half as many about a chart, of the tasks of `diet` that it allows."""
    tasks = [task for task, share in diet.items() for _ in range(share)]
    allowed = [task for task in tasks if task in tasks_of(scene)] or tasks_of(scene)
    return sample_questions(scene, allowed, count // 2 if scene.kind in CHARTS else count, rng)


# -- images --------------------------------------------------------------------------------------------------------


def draw_llava_pixels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Make pixel_values (b, 3, SIDE, SIDE), as the processor does."""
    images = [draw_scene(s).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for s in scenes]
    return {"pixel_values": stack_pixels(images)}


def stack_pixels(images: Sequence[Image.Image]) -> Tensor:
    """Stack images of one size as (images, 3, height, width) in [-1, 1]."""
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1


def draw_qwen_pixels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Make pixel_values (patches, values) and image_grid_thw (b, 3), as the processor does."""
    return dict(make_qwen_image_processor()([draw_scene(s) for s in scenes], return_tensors="pt"))


PIXELS = {"llava": draw_llava_pixels, "qwen": draw_qwen_pixels}


def make_labels(name: str, scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Concatenate the labels of all patches of all images, in the order of the vision encoder's output."""
    values: dict[str, list[np.ndarray]] = {}
    for scene in scenes:
        rows, columns = (SIDE // PATCH,) * 2 if name == "llava" else (scene.size[1] // PATCH, scene.size[0] // PATCH)
        labels = make_patch_labels(scene, rows, columns, PATCH)
        for key in SYMBOLS:
            value = getattr(labels, key)
            values.setdefault(key, []).append(value if name == "llava" else _group_by_token(value, rows, columns))
        values.setdefault("image", []).append(labels.image[None])
    return {key: torch.from_numpy(np.concatenate(parts)) for key, parts in values.items()}


def _group_by_token(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Reorder patches from raster order so that the patches of one merged token follow each other."""
    blocks = values.reshape(rows // MERGE, MERGE, columns // MERGE, MERGE, *values.shape[1:])
    merged: np.ndarray = blocks.swapaxes(1, 2).reshape(values.shape)
    return merged


# -- text ----------------------------------------------------------------------------------------------------------

Head = tuple[list[int], list[tuple[int, ...]], int]
"""The part of a row that all its questions attend to: ids, their positions on every axis, and the next position."""


def make_llava_head(_: Scene, chat: ChatFormat, tokenizer: PreTrainedTokenizerFast) -> Head:
    """Make the head with the image's placeholders at consecutive positions."""
    ids = tokenizer(chat.before + chat.image * (SIDE // PATCH) ** 2 + chat.after).input_ids
    return ids, [(i,) for i in range(len(ids))], len(ids)


def make_qwen_head(scene: Scene, chat: ChatFormat, tokenizer: PreTrainedTokenizerFast) -> Head:
    """Make the head with the image's placeholders at their time, row and column."""
    columns, rows = (side // PATCH // MERGE for side in scene.size)
    return make_visual_head("image", [(1, rows, columns)], chat, tokenizer)


def make_visual_head(
    modality: str, grids: Sequence[tuple[int, int, int]], chat: ChatFormat, tokenizer: PreTrainedTokenizerFast
) -> Head:
    """Make the head of a prompt with images or videos of (times, rows, columns) tokens, at their M-RoPE positions."""
    ids = tokenizer(chat.before).input_ids
    place: list[tuple[int, ...]] = [(i, i, i) for i in range(len(ids))]
    opens, pad, closes = (
        tokenizer(f"<|{part}|>").input_ids for part in ("vision_start", f"{modality}_pad", "vision_end")
    )
    follows = len(ids)
    for times, rows, columns in grids:
        first = follows + 1
        ids += [*opens, *pad * (times * rows * columns), *closes]
        place.append((follows,) * 3)
        place += [(first + t, first + y, first + x) for t in range(times) for y in range(rows) for x in range(columns)]
        follows = first + max(rows, columns)
        place.append((follows,) * 3)
        follows += 1
    after = tokenizer(chat.after).input_ids
    return ids + after, place + [(follows + i,) * 3 for i in range(len(after))], follows + len(after)


HEADS = {"llava": make_llava_head, "qwen": make_qwen_head}


def make_symbols(
    name: str,
    batch: dict[str, Tensor],
    heads: Sequence[Head],
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
) -> tuple[dict[str, Tensor], list[Head]]:
    """Keep the visual tokens that show something and a few empty ones, and add errors to the labels of their patches.

    Returns:
        The SYMBOLS of the kept tokens' patches, and the heads without the dropped tokens.
    """
    per_token = 1 if name == "llava" else MERGE**2
    image = tokenizer.convert_tokens_to_ids(tokenizer.image_token)
    shown = (batch["form"].reshape(-1, per_token) > 0).any(1).numpy()
    kept = shown | (rng.random(len(shown)) < EMPTY_SHARE)
    out = {key: batch[key][torch.from_numpy(kept.repeat(per_token))] for key in SYMBOLS}
    for key in ("form", "color", "glyph", "order"):
        out[key] = out[key] * torch.from_numpy(rng.random(len(out[key])) >= MISSING_SHARE)
    out["place"] += BLUR * torch.from_numpy(rng.standard_normal(out["place"].shape, dtype=np.float32))
    flags, shorter = iter(kept), []
    for ids, place, follows in heads:
        stays = [token != image or next(flags) for token in ids]
        shorter.append((list(compress(ids, stays)), list(compress(place, stays)), follows))
    return out, shorter


def pack(
    heads: Sequence[Head],
    questions: Sequence[Sequence[Question]],
    chat: ChatFormat,
    tokenizer: PreTrainedTokenizerFast,
) -> dict[str, Tensor]:
    """Pack each image's head and all its questions with their answers into one row.

    A question attends to the head and to itself only, at the positions that it would have alone.

    Returns:
        input_ids (b, L) and labels (b, L); task (b, L), the number of each label's task, -1 for captions; answer
        (b, L), the number of the question in the batch; position_ids (axes, b, L), or (b, L) for one axis;
        attention_mask (b, 1, L, L), True where a token may attend; shared (), the number of leading columns that
        belong to the head in every row.
    """
    rows, number = [], 0
    for (head, place, follows), own in zip(heads, questions, strict=True):
        ids, positions, block = list(head), list(place), [0] * len(head)
        targets, tasks, answers = [IGNORED_LABEL] * len(head), [-1] * len(head), [0] * len(head)
        for index, question in enumerate(own, start=1):
            prompt = tokenizer(f"{question.text}{chat.reply}").input_ids
            reply = tokenizer(f"{chat.lead}{question.answer}{chat.end}").input_ids
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
    visible = (blocks[:, None, :] == 0) | (blocks[:, None, :] == blocks[:, :, None])
    mask = visible & torch.ones(width, width, dtype=torch.bool).tril()
    out = dict(zip(("input_ids", "labels", "task", "answer"), padded, strict=True))
    out["shared"] = torch.tensor(min(len(head) for head, _, _ in heads))
    return out | {
        "position_ids": positions_[0] if len(positions_) == 1 else positions_,
        "attention_mask": mask[:, None],
    }
