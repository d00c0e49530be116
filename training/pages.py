"""Batches of pages in tiles, for the stages of the tiled model."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from foveate.world.drawing import draw_scene, locate_glyphs
from foveate.world.pages import CELLS_OF_SIDE, SIDES, make_page_question, sample_page
from foveate.world.plain_questions import Question
from foveate.world.questions import make_caption
from foveate.world.scenes import PAGES, Scene, sample_scene
from training.build import LLAVA, ChatFormat
from training.data import TRAIN_STREAM, Head, pack, sample_from_diet, sample_kind, stack_pixels
from training.labels import CLASSES, IMAGE_LABELS, PLACE, make_patch_labels
from training.plans import COUNTING, TrainingStage
from training.tiled import GRID, TILE, TILE_PATCH, build_tiled_processor

SINGLE, SHRUNK = 0, 1  # in place of a page's side: an ordinary scene, in one tile, and a sheet shrunk to one
EASY = 1100  # steps, the first ones, in which pages are small
EASY_SHARES = {SINGLE: 0.05, SHRUNK: 0.3, TILE: 0.2, 672: 0.3, 896: 0.15}
SHARES = {SINGLE: 0.05, SHRUNK: 0.25, TILE: 0.05, 672: 0.2, 896: 0.15, 1120: 0.15, 1344: 0.1, 2048: 0.05}
"""Share of the steps with pages of these sides; one of a tile's is a tile of a larger page, as an image of its own."""
SHRUNK_SHARES = {672: 0.6, 896: 0.25, 1120: 0.05, 1344: 0.05, 2048: 0.05}
"""Share of the shrunk sheets that are as full as pages of these sides."""
IMAGES = {SINGLE: 10, SHRUNK: 16, TILE: 16, 672: 8, 896: 5, 1120: 3, 1344: 2, 2048: 1}
"""Images of a step."""
WHOLE = {SINGLE: 0.3, 672: 0.1}
"""Share of the steps in which no visual token is left out, of a quarter as many images."""
UNKNOWN = -1  # a label
EMPTY_SHARES = (0.01, 0.1)  # the smallest and the largest share of the tiles' empty visual tokens that stays
OVERVIEW_SHARE = 0.15  # of the overview's empty visual tokens
WHOLE_OVERVIEWS = 0.9  # share of the images whose overview keeps all visual tokens of objects, to count them
FEWEST = 0.15  # share of the visual tokens of objects that stays, at least; those of texts all stay
FEWEST_QUESTIONS = 14  # about a page; about one with more objects as many as it has
CAPTIONED = 12  # objects of a page with a caption, at most
SIGHT_SCENES, SIGHT_VIEWS = 2, 3  # ordinary scenes and more overviews in a step of the vision encoder's stage


def cut_tile(scene: Scene, tiles: int, row: int, column: int) -> Scene:
    """The part of a page of tiles x tiles tiles that one of them shows, as a scene of its own."""
    things = [
        replace(
            thing,
            x=thing.x * tiles - column,
            y=thing.y * tiles - row,
            rx=thing.rx * tiles,
            ry=thing.ry * tiles,
            scale=thing.scale * tiles,
        )
        for thing in scene.things
        if int(thing.x * tiles) == column and int(thing.y * tiles) == row
    ]
    return Scene(scene.kind, tuple(things), scene.texture, (TILE, TILE))


def cut_scenes(scene: Scene, tiles: int) -> list[Scene]:
    """What the tiles of a page show, row by row."""
    return [cut_tile(scene, tiles, *divmod(number, tiles)) for number in range(tiles**2)]


def draw_in_one_tile(scene: Scene) -> Image.Image:
    """A scene as large as a tile."""
    return draw_scene(scene).resize((TILE, TILE), Image.Resampling.BICUBIC)


def cut_pixels(image: Image.Image, columns: int, rows: int) -> list[Image.Image]:
    """The tiles of an image, row by row, and the overview, as the processor makes them."""
    whole = image.resize((columns * TILE, rows * TILE), Image.Resampling.BICUBIC)
    corners = [(column * TILE, row * TILE) for row in range(rows) for column in range(columns)]
    parts = [whole.crop((x, y, x + TILE, y + TILE)) for x, y in corners]
    return [*parts, image.resize((TILE, TILE), Image.Resampling.BICUBIC)] if len(parts) > 1 else parts


def mark_shown(scene: Scene, side: int) -> np.ndarray:
    """(side, side) int: 1 for the patches of a square grid that an object reaches, 2 for those of a text, else 0."""
    shown = np.zeros((side, side), dtype=np.int64)
    objects = [
        (thing.x - thing.rx, thing.y - thing.ry, thing.x + thing.rx, thing.y + thing.ry) for thing in scene.things
    ]
    texts = [box for thing in scene.things for box in locate_glyphs(thing)]
    for kind, boxes in ((1, objects), (2, texts)):
        for left, top, right, bottom in boxes:
            rows = slice(max(0, int(top * side)), int(np.ceil(bottom * side)))
            shown[rows, max(0, int(left * side)) : int(np.ceil(right * side))] = kind
    return shown


def make_tiled_head(processor: Any, chat: ChatFormat, count: int, kept: Iterable[bool]) -> Head:
    """The part of the prompt before the question, with an image of `count` parts of whose visual tokens `kept` stay."""
    image = processor.replace_image_token({"num_patches": [count]}, 0)
    ids = processor.tokenizer(chat.opening + chat.before + image + chat.after).input_ids
    flags = iter(kept)
    stays = [token != processor.image_token_id or next(flags) for token in ids]
    places: list[tuple[int, ...]] = [(i,) for i in range(len(ids))]
    return list(compress(ids, stays)), list(compress(places, stays)), len(ids)


def join_labels(tiles: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    """The labels of all patches of all tiles, and of the images; `UNKNOWN` where a tile has none."""
    blank = {name: np.full(GRID**2, UNKNOWN) for name in CLASSES}
    blank |= {"place": np.zeros((GRID**2, PLACE), np.float32), "image": np.full(IMAGE_LABELS, UNKNOWN, np.float32)}
    filled = [blank | dict(labels) for labels in tiles]
    joined = {name: [labels[name] for labels in filled] for name in blank}
    images = torch.from_numpy(np.stack(joined.pop("image")))
    return {name: torch.from_numpy(np.concatenate(parts)) for name, parts in joined.items()} | {"image": images}


class SightBatches(Dataset[dict[str, Tensor]]):
    """Tiles, overviews and ordinary scenes with the labels of their patches. Element `i` is step `i`."""

    def __init__(self, stage: TrainingStage, seed: int) -> None:
        self.stage, self.stream = stage, 2 * seed + TRAIN_STREAM

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        first = self.stage.stream + step * self.stage.batch
        rng = random.Random(f"foveate sight {self.stream} {first}")
        pairs = []
        for index in range(first, first + SIGHT_SCENES):
            scene = sample_scene(self.stream, index, sample_kind(rng, self.stage.scenes))
            pairs.append((scene, draw_in_one_tile(scene)))
        sides = [SIDES[0], SIDES[0], *(rng.choice(SIDES[1:]) for _ in range(SIGHT_VIEWS))]
        for index, side in enumerate(sides, start=first + SIGHT_SCENES):
            page = sample_page(self.stream, index, PAGES[index % 2], side)
            tiles = CELLS_OF_SIDE[side] // 2
            *parts, overview = cut_pixels(draw_scene(page), tiles, tiles)
            pairs.append((page, overview))
            if side == SIDES[0]:  # in tiles all sides are alike, and the smallest page has the fullest ones
                pairs += [(cut, part) for cut, part in zip(cut_scenes(page, tiles), parts, strict=True) if cut.things]
        labels = [vars(make_patch_labels(scene, GRID, GRID, TILE_PATCH)) for scene, _ in pairs]
        return join_labels(labels) | {"pixel_values": stack_pixels([image for _, image in pairs])}


class PageBatches(Dataset[dict[str, Tensor]]):
    """Images in tiles with questions about them; most empty visual tokens are left out. Element `i` is step `i`."""

    def __init__(self, stage: TrainingStage, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.stage, self.tokenizer, self.stream = stage, tokenizer, 2 * seed + TRAIN_STREAM
        self.processor = build_tiled_processor(tokenizer)

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        first = self.stage.stream + step * max(IMAGES.values())
        rng = random.Random(f"foveate pages {self.stream} {first}")
        shares = EASY_SHARES if step < EASY else SHARES
        side = rng.choices(list(shares), list(shares.values()))[0]
        whole = rng.random() < WHOLE.get(side, 0.0)
        pixels, heads, questions, kept = [], [], [], []
        count = max(1, IMAGES[side] // 4) if whole else IMAGES[side]
        # One for all: rows of about one length. What is to be counted is on sheets.
        kind = "sheet" if side == SHRUNK else rng.choice(("form", "sheet", "sheet"))
        for index in range(first, first + count):
            scene, parts = self._draw(index, side, kind, rng)
            keeps = np.ones((len(parts), GRID**2), dtype=bool) if whole else choose_kept(scene, len(parts), rng)
            pixels += parts
            kept.append(keeps.reshape(-1))
            heads.append(make_tiled_head(self.processor, LLAVA, len(parts), kept[-1]))
            questions.append(self._sample_questions(scene, rng, legible=side != SHRUNK))
        batch = pack(heads, questions, LLAVA, self.tokenizer)
        return batch | {"pixel_values": stack_pixels(pixels), "kept": torch.from_numpy(np.concatenate(kept))}

    def _draw(self, index: int, side: int, kind: str, rng: random.Random) -> tuple[Scene, list[Image.Image]]:
        if side == SINGLE:
            scene = sample_scene(self.stream, index, sample_kind(rng, self.stage.scenes))
            return scene, [draw_in_one_tile(scene)]
        if side == SHRUNK:  # drawn small at once, which takes a tenth of the time
            (full,) = rng.choices(list(SHRUNK_SHARES), list(SHRUNK_SHARES.values()))
            page = replace(sample_page(self.stream, index, kind, full), size=(SIDES[0], SIDES[0]))
            return page, [draw_in_one_tile(page)]
        page, parts = draw_page(self.stream, index, kind, max(side, SIDES[0]))
        if side > TILE:
            return page, parts
        tiles = CELLS_OF_SIDE[page.size[0]] // 2
        cut, part = max(zip(cut_scenes(page, tiles), parts, strict=False), key=lambda pair: len(pair[0].things))
        return cut, [part]

    def _sample_questions(self, scene: Scene, rng: random.Random, legible: bool) -> list[Question]:
        if scene.kind in PAGES:
            captions = [make_caption(scene, rng)] if legible and len(scene.things) <= CAPTIONED else []
            return sample_page_questions(scene, rng, legible) + captions
        return [*sample_from_diet(scene, COUNTING, self.stage.questions, rng), make_caption(scene, rng)]


def draw_page(stream: int, index: int, kind: str, side: int) -> tuple[Scene, list[Image.Image]]:
    """A page with its tiles and overview."""
    page = sample_page(stream, index, kind, side)
    tiles = CELLS_OF_SIDE[side] // 2
    return page, cut_pixels(draw_scene(page), tiles, tiles)


def sample_page_questions(scene: Scene, rng: random.Random, legible: bool) -> list[Question]:
    """Questions about a page: of one about many fields or signs, each once; mostly counts where no text is legible."""
    wanted = {"form": 80} if scene.kind == "form" else {"sheet": 40 if legible else 6, "tally": 20 if legible else 60}
    drawn = [make_page_question(scene, task, rng) for task, count in wanted.items() for _ in range(count)]
    readable = [question for question in drawn if question and (legible or question.variant not in ("number", "word"))]
    distinct = list({question.text: question for question in readable}.values())
    return rng.sample(distinct, min(max(FEWEST_QUESTIONS, len(scene.things)), len(distinct)))


def choose_kept(scene: Scene, count: int, rng: random.Random, grid: int = GRID) -> np.ndarray:
    """(count, grid**2) bool: the visual tokens that stay, tile by tile, the overview last; a tile has grid x grid."""
    tiles = round((count - 1) ** 0.5) or 1
    shown = mark_shown(scene, tiles * grid).reshape(tiles, grid, tiles, grid).swapaxes(1, 2).reshape(-1, grid**2)
    if count > 1:
        shown = np.concatenate([shown, mark_shown(scene, grid).reshape(1, -1)])
    numbers = np.random.default_rng(rng.randrange(2**31))
    least, most = EMPTY_SHARES
    empty = np.full((count, 1), least * (most / least) ** rng.random())
    empty[-1] = OVERVIEW_SHARE
    of_objects = np.full((count, 1), FEWEST + (1 - FEWEST) * numbers.random() ** 2)
    if numbers.random() < WHOLE_OVERVIEWS:
        of_objects[-1] = 1.0
    shares = np.choose(shown, [np.broadcast_to(each, shown.shape) for each in (empty, of_objects)] + [1.0])
    return numbers.random(shown.shape) < shares
