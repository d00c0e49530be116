"""Batches for the vision encoder of the model on SmolLM2: tiles of documents, of pages and of scenes, with labels."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from foveate.world.documents import DOCUMENTS, draw_document, sample_document
from foveate.world.pages import SIDES, sample_page
from foveate.world.scenes import PAGES, sample_scene
from training.data import TRAIN_STREAM, sample_kind, stack_pixels
from training.labels import CLASSES, IMAGE_LABELS, PLACE, make_patch_labels
from training.pages import cut_pixels, cut_scenes, draw_in_one_tile, draw_page
from training.plans import TrainingStage
from training.tiled import GRID, TILE_PATCH
from training.views import UNKNOWN, find_grid, label_letters

SCENES, TILES, LETTERS = 3, 2, 10  # of a step: scenes, tiles of a page and of documents; a shrunk page is beside them


class LetterBatches(Dataset[dict[str, Tensor]]):
    """Tiles with the labels of their patches. Element `i` is step `i`."""

    def __init__(self, stage: TrainingStage, seed: int) -> None:
        self.stage, self.stream = stage, 2 * seed + TRAIN_STREAM

    def __len__(self) -> int:
        return self.stage.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        first = self.stage.stream + step * self.stage.batch
        rng = random.Random(f"foveate letters {self.stream} {first}")
        shown = [sample_scene(self.stream, first + i, sample_kind(rng, self.stage.scenes)) for i in range(SCENES)]
        shown.append(sample_page(self.stream, first, rng.choice(PAGES), rng.choice(SIDES[:2])))
        pairs = [(scene, draw_in_one_tile(scene)) for scene in shown]
        page, parts = draw_page(self.stream, first, PAGES[step % 2], SIDES[0])
        tiles = [pair for pair in zip(cut_scenes(page, 2), parts, strict=False) if pair[0].things]
        pairs += rng.sample(tiles, min(TILES, len(tiles)))
        labels = [make_patch_labels(scene, GRID, GRID, TILE_PATCH) for scene, _ in pairs]
        letters = [pair for i in range(LETTERS) for pair in self._cut_document(first + i, rng)][:LETTERS]
        pixels = stack_pixels([image for _, image in (*pairs, *letters)])
        return join_labels(
            [
                *(vars(label) | {"image": label.image[None]} for label in labels),
                *({"glyph": glyph} for glyph, _ in letters),
            ]
        ) | {"pixel_values": pixels}

    def _cut_document(self, index: int, rng: random.Random) -> list[tuple[np.ndarray, Image.Image]]:
        """At most two tiles of a document that have text, each with the glyphs of its patches."""
        document = sample_document(self.stream, index, rng.choice(list(DOCUMENTS)))
        columns, rows = find_grid(document.size)
        parts = cut_pixels(draw_document(document), columns, rows)
        glyphs = label_letters(document, columns, rows).reshape(len(parts), -1)
        pairs = [(glyph, part) for glyph, part in zip(glyphs, parts, strict=True) if (glyph > 0).any()]
        return rng.sample(pairs, min(2, len(pairs)))


def join_labels(tiles: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    """The labels of all patches of all tiles, and of the images; `UNKNOWN` where a tile has none."""
    blank = {name: np.full(GRID**2, UNKNOWN) for name in CLASSES}
    blank |= {"place": np.zeros((GRID**2, PLACE), np.float32), "image": np.full((1, IMAGE_LABELS), UNKNOWN, np.float32)}
    filled = [blank | dict(labels) for labels in tiles]
    joined = {name: np.concatenate([labels[name] for labels in filled]) for name in blank}
    return {name: torch.from_numpy(values) for name, values in joined.items()}
