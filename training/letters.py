"""Batches for the vision encoder of the model on SmolLM2: tiles of documents, of pages and of scenes, with labels."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image
from torch import Tensor

from foveate.world.documents import DOCUMENTS, draw_document, sample_document
from foveate.world.pages import SIDES, sample_page
from foveate.world.scenes import PAGES, sample_scene
from training.data import sample_kind, stack_pixels
from training.labels import make_patch_labels
from training.pages import SightBatches, cut_pixels, cut_scenes, draw_in_one_tile, draw_page, join_labels
from training.tiled import GRID, TILE_PATCH
from training.views import find_grid, label_letters

SCENES, TILES, LETTERS = 3, 2, 10  # of a step: scenes, tiles of a page and of documents; a shrunk page is beside them


class LetterBatches(SightBatches):
    """Tiles with the labels of their patches. Element `i` is step `i`."""

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
        known = [*map(vars, labels), *({"glyph": glyph} for glyph, _ in letters)]
        return join_labels(known) | {"pixel_values": pixels}

    def _cut_document(self, index: int, rng: random.Random) -> list[tuple[np.ndarray, Image.Image]]:
        """At most two tiles of a document that have text, each with the glyphs of its patches."""
        document = sample_document(self.stream, index, rng.choice(list(DOCUMENTS)))
        columns, rows = find_grid(document.size)
        parts = cut_pixels(draw_document(document), columns, rows)
        glyphs = label_letters(document, columns, rows).reshape(len(parts), -1)
        pairs = [(glyph, part) for glyph, part in zip(glyphs, parts, strict=True) if (glyph > 0).any()]
        return rng.sample(pairs, min(2, len(pairs)))
