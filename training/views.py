"""Batches for the model on SmolLM2: scenes, pages, documents, diagrams and public questions, in tiles."""

from __future__ import annotations

import importlib.util
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

from foveate.runtime.late import import_late
from foveate.world.diagrams import Diagram, draw_diagram, list_diagram_questions, sample_diagram
from foveate.world.documents import DOCUMENTS, Document, draw_document, sample_document
from foveate.world.drawing import draw_scene
from foveate.world.pages import CELLS_OF_SIDE
from foveate.world.plain_questions import Question
from foveate.world.scenes import PAGES, sample_scene
from training.data import TRAIN_STREAM, pack, sample_kind, sample_scene_questions, stack_pixels
from training.labels import label_glyphs
from training.pages import (
    UNKNOWN,
    choose_kept,
    cut_pixels,
    draw_in_one_tile,
    draw_page,
    make_tiled_head,
    sample_page_questions,
)
from training.plans import TrainingStage
from training.smol import FACTOR, MOST_TILES, SMOL, build_smol_processor
from training.tiled import GRID, TILE
from training.wordings import reword

SIDE = GRID // FACTOR  # visual tokens along a tile's sides
MIX = {"scene": 6, "tiles": 2, "short": 9, "long": 3, "diagram": 4, "page": 3, "public": 1}
"""Shares of the steps with images of one kind: a scene is shown in one tile or, as the processor cuts it, in
"tiles"; a short document has one tile, a long one has more."""
PAGE_SHARES = {672: 4, 896: 3, 1120: 2, 1344: 2, 2048: 1}
PAGES_OF_SIDE = {672: 6, 896: 3, 1120: 2, 1344: 2, 2048: 1}
IMAGES = {"tiles": 3, "short": 11, "long": 3, "diagram": 11, "public": 12}
"""Images of a step, where they are not as many as the stage's."""
ONE_TILE = 0.85  # share of the steps with diagrams in which they have one tile
FACTS = {True: 4, False: 10}  # questions about a document or a diagram, at most, by whether it has one tile
SPELLED = 12  # lines of a document that is read out as a whole, at most
EMPTY_SHARE, OVERVIEW_SHARE = 0.1, 0.5  # of a long document's visual tokens without text, and of its overview's


@dataclass
class View:
    """One image of a batch.

    Args:
        parts: Its tiles and overview.
        questions: With their answers, reworded.
        kept: (parts, SIDE**2) bool, the visual tokens that stay; None for all.
    """

    parts: list[Image.Image]
    questions: list[Question]
    kept: np.ndarray | None = None


class ViewBatches(Dataset[dict[str, Tensor]]):
    """Images of many kinds with questions about them. Element `i` is step `i`: images of one kind."""

    def __init__(self, stage: TrainingStage, tokenizer: Any, seed: int) -> None:
        self.stage, self.tokenizer, self.stream = stage, tokenizer, 2 * seed + TRAIN_STREAM
        self.processor = build_smol_processor(tokenizer, max(CELLS_OF_SIDE.values()) ** 2 // 4)
        self.mix = {kind: share for kind, share in MIX.items() if kind != "public" or has_public()}

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        first = self.stage.stream + step * max(self.stage.batch, *IMAGES.values())
        rng = random.Random(f"foveate views {self.stream} {first}")
        kind = rng.choices(list(self.mix), list(self.mix.values()))[0]
        views = MAKERS[kind](self, range(first, first + IMAGES.get(kind, self.stage.batch)), rng)
        kept = [np.ones((len(v.parts), SIDE**2), bool) if v.kept is None else v.kept for v in views]
        heads = [make_tiled_head(self.processor, SMOL, len(keeps), keeps.reshape(-1)) for keeps in kept]
        questions = [[reword(question, rng) for question in view.questions] for view in views]
        batch = pack(heads, questions, SMOL, self.tokenizer)
        parts = [part for view in views for part in view.parts]
        return batch | {"pixel_values": stack_pixels(parts), "kept": torch.from_numpy(np.concatenate(kept)).flatten()}


def _show_scenes(data: ViewBatches, numbers: range, rng: random.Random, cut: bool) -> list[View]:
    stage, views = data.stage, []
    for index in numbers:
        scene = sample_scene(data.stream, index, sample_kind(rng, stage.scenes))
        parts = cut_pixels(draw_scene(scene), *find_grid(scene.size)) if cut else [draw_in_one_tile(scene)]
        views.append(View(parts, sample_scene_questions(scene, stage, rng)))
    return views


def _show_pages(data: ViewBatches, numbers: range, rng: random.Random) -> list[View]:
    side, kind = rng.choices(list(PAGE_SHARES), list(PAGE_SHARES.values()))[0], rng.choice(PAGES)
    views = []
    for index in numbers[: PAGES_OF_SIDE[side]]:
        page, parts = draw_page(data.stream, index, kind, side)
        questions = sample_page_questions(page, rng, legible=True)
        views.append(View(parts, questions, choose_kept(page, len(parts), rng, SIDE)))
    return views


def _show_documents(data: ViewBatches, numbers: range, rng: random.Random, short: bool) -> list[View]:
    views = []
    for index in numbers:
        task = rng.choice(list(DOCUMENTS))
        document = _sample_until(partial(sample_document, data.stream, kind=task), index, short)
        columns, rows = find_grid(document.size)
        parts = cut_pixels(draw_document(document), columns, rows)
        questions = rng.sample(document.questions, min(FACTS[short], len(document.questions)))
        read = spell(document)
        if read.count("\n") < SPELLED:
            questions.append(Question("caption", task, "write down all text", read))
        kept = None if short else _choose_tokens(label_letters(document, columns, rows), rng)
        views.append(View(parts, questions, kept))
    return views


def _show_diagrams(data: ViewBatches, numbers: range, rng: random.Random) -> list[View]:
    views, short = [], rng.random() < ONE_TILE
    for index in numbers[: None if short else IMAGES["long"]]:
        diagram = _sample_until(partial(sample_diagram, data.stream), index, short)
        questions = list_diagram_questions(diagram)
        parts = cut_pixels(draw_diagram(diagram), *find_grid(diagram.size))
        caption = Question("caption", "diagram", "write down all that the chart shows", describe_diagram(diagram))
        views.append(View(parts, [*rng.sample(questions, min(FACTS[False], len(questions))), caption]))
    return views


def _sample_until(sample: Callable[[int], Any], index: int, short: bool) -> Any:
    """The first sample that fits into one tile, or (not `short`) that does not."""
    samples = (sample(1000 * index + attempt) for attempt in count())
    return next(it for it in samples if (find_grid(it.size) == (1, 1)) == short)


def _show_public(_: ViewBatches, numbers: range, rng: random.Random) -> list[View]:
    images = read_public()
    views = []
    for path in rng.sample(sorted(images), len(numbers)):
        image = Image.open(path).convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC)
        views.append(View([image], [Question("public", "", text, answer) for text, answer in images[path]]))
    return views


MAKERS: dict[str, Callable[[ViewBatches, range, random.Random], list[View]]] = {
    "scene": partial(_show_scenes, cut=False),
    "tiles": partial(_show_scenes, cut=True),
    "page": _show_pages,
    "short": partial(_show_documents, short=True),
    "long": partial(_show_documents, short=False),
    "diagram": _show_diagrams,
    "public": _show_public,
}


def find_grid(size: tuple[int, int]) -> tuple[int, int]:
    """The columns and rows of tiles into which the processor cuts an image of this (width, height)."""
    columns, rows = get_optimal_tiled_canvas((size[1], size[0]), (TILE, TILE), 1, MOST_TILES)
    return columns, rows


def _choose_tokens(glyphs: np.ndarray, rng: random.Random) -> np.ndarray:
    """(parts, SIDE**2) bool: the visual tokens of text and beside it, and a share of the others."""
    text = glyphs.reshape(-1, SIDE, FACTOR, SIDE, FACTOR).max((2, 4)) > 0
    beside = np.pad(text, ((0, 0), (0, 0), (1, 1)))
    near = text | beside[..., :-2] | beside[..., 2:]
    chance = np.full((len(text), 1, 1), EMPTY_SHARE)
    chance[-1] = OVERVIEW_SHARE
    kept: np.ndarray = near | (np.random.default_rng(rng.randrange(2**31)).random(text.shape) < chance)
    return kept.reshape(len(text), -1)


def spell(document: Document) -> str:
    """All text of a document, line by line."""
    lines: dict[float, list[str]] = defaultdict(list)
    for line in document.lines:
        lines[line.y].append(line.text)
    return "\n".join(" ".join(parts) for _, parts in sorted(lines.items()))


def describe_diagram(diagram: Diagram) -> str:
    """What a diagram shows, line by line: the title, then names, values where they are written, and colours."""
    if diagram.kind == "lines":
        ways = ["rise" if values[-1] > values[0] else "fall" for values in diagram.series]
        return "\n".join([diagram.title, *map(" ".join, zip(diagram.labels, diagram.inks, ways, strict=True))])
    values = [f" {value}" if diagram.has_values else "" for value in diagram.series[0]]
    lines = [f"{name}{value} {ink}" for name, value, ink in zip(diagram.names, values, diagram.inks, strict=True)]
    return "\n".join([diagram.title, *lines])


def label_letters(document: Document, columns: int, rows: int) -> np.ndarray:
    """The glyph of every patch of every tile, row by row, and of the overview (parts * GRID**2)."""
    width, height = document.size
    texts = [
        (line.text, [(x0 / width, y0 / height, x1 / width, y1 / height) for x0, y0, x1, y1 in line.locate_glyphs()])
        for line in document.lines
    ]
    whole = label_glyphs(texts, rows * GRID, columns * GRID)[0]
    tiles = whole.reshape(rows, GRID, columns, GRID).swapaxes(1, 2).reshape(-1)
    overview = np.full(GRID**2, UNKNOWN) if columns * rows > 1 else tiles[:0]  # its glyphs are too small to read
    return np.concatenate([tiles, overview])


def has_public() -> bool:
    """Whether the public data set easy-VQA is installed."""
    return importlib.util.find_spec("easy_vqa") is not None


@lru_cache(maxsize=1)
def read_public() -> dict[Path, list[tuple[str, str]]]:
    """The questions and answers of easy-VQA's training images, by the image's path."""
    easy_vqa = import_late("easy_vqa")
    paths = easy_vqa.get_train_image_paths()
    images = defaultdict(list)
    for text, answer, number in zip(*easy_vqa.get_train_questions(), strict=True):
        images[Path(paths[number])].append((text, answer))
    return dict(images)
