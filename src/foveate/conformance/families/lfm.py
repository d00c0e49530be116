"""LFM2-VL: tiles and overviews of different sizes, as rows of patches."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.tiling import Layout, TinyTiledFamily
from foveate.models.base import Inputs
from foveate.models.lfm import IMAGE_TOKEN, TILE_MARKS
from foveate.models.visual_input import Grid

TILE = (2, 2)  # (h, w) in tokens
# The layout of an image's tiles, and (h, w) in tokens of its overview: each image has another number of tokens.
IMAGES: tuple[tuple[Layout, tuple[int, int]], ...] = (((1, 2), (2, 3)), ((1, 1), (3, 3)), ((2, 2), (4, 2)))


class TinyLfm2VL(TinyTiledFamily):
    """Tiny models of `Lfm2VL`."""

    def layout(self, number: int) -> Layout:
        """Of the tiles."""
        return IMAGES[number % len(IMAGES)][0]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Tiles and overviews padded to the longest."""
        sides = []
        for number, count in enumerate(self.count_tiles(range(sum(rows)))):
            sides += [*[TILE] * (count - 1), IMAGES[number % len(IMAGES)][1]]
        shapes = torch.tensor(sides) * config.downsample_factor
        longest = int(shapes.prod(-1).max())
        pixels = torch.randn(len(shapes), longest, 3 * config.vision_config.patch_size**2, generator=rng)
        mask = (torch.arange(longest) < shapes.prod(-1, keepdim=True)).long()
        return {"pixel_values": pixels, "spatial_shapes": shapes, "pixel_attention_mask": mask}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The tiles of the row's images."""
        first = sum(self.count_tiles(range(items.start)))
        tiles = slice(first, first + sum(self.count_tiles(items)))
        return {name: inputs[name][tiles] for name in ("pixel_values", "spatial_shapes", "pixel_attention_mask")}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """A marker before every tile and before an overview beside tiles, others at an image's start and end."""
        token, marks = [config.image_token_id], [config.image_token_id + mark for mark in TILE_MARKS]
        if config.image_token_id != IMAGE_TOKEN:
            marks = [*range(310, 315), 315, 316, 317]
        *numbered, overview, start, end = marks
        for (rows, columns), (h, w) in IMAGES:
            count = rows * columns if rows * columns > 1 else 0
            if count * TILE[0] * TILE[1] + h * w == tokens:
                tiles = [i for n in range(count) for i in (numbered[n], *token * (TILE[0] * TILE[1]))]
                return [start, *tiles, *([overview] if count else []), *token * (h * w), end]
        raise AssertionError(f"No image has {tokens} tokens.")
