"""Families whose encoder sees an image as tiles: images of several tiles and of one, between markers."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid

Layout = tuple[int, int]  # rows and columns of tiles; an overview stands beside several
BLOCK = 8  # pixels that overviews and tiles share a colour over: the scaling would blur smaller ones
LAYOUTS: tuple[Layout, ...] = ((1, 2), (1, 1), (2, 2), (3, 1))  # of different numbers of tiles


class TinyTiledFamily(TinyFamily):
    """Tiny models of families whose encoder sees every tile as an image of its own."""

    tile_tokens = 0  # of the model that `encode_inputs` ran last

    def layout(self, number: int) -> Layout:
        """The layout of an image by its number in the batch."""
        return LAYOUTS[number % len(LAYOUTS)]

    def count_tiles(self, images: range) -> list[int]:
        """The encoder's entries for each of these images."""
        sizes = [rows * columns for rows, columns in map(self.layout, images)]
        return [size + (size > 1) for size in sizes]

    def split_rows(self, rows: Sequence[int]) -> list[range]:
        """The numbers of the images in each row of the batch."""
        return [range(end - count, end) for count, end in zip(rows, accumulate(rows), strict=True)]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """All tiles in one tensor."""
        return super().make_inputs(config, modality, [sum(map(sum, map(self.count_tiles, self.split_rows(rows))))], rng)

    def encode_inputs(self, model: Any, inputs: Inputs, modality: str) -> Any:
        """The tiles of each image joined, as `encode` joins them once there is a prompt."""
        encoded = super().encode_inputs(model, inputs, modality)
        sizes = [len(tokens) for tokens in self.family.features(encoded, modality)]
        self.tile_tokens = sizes[0]
        images: list[int] = []
        while sum(images) < sum(sizes):
            done = len(images)
            start = sum(self.count_tiles(range(done)))
            images.append(sum(sizes[start : start + self.count_tiles(range(done, done + 1))[0]]))
        return self.family.regroup(encoded, images)

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers, and the placeholders of every tile."""
        tile = [self.family.token_id(config, modality)] * self.tile_tokens
        count = tokens // self.tile_tokens
        return self.mark_tiles(config, next(one for one in LAYOUTS if one[0] * one[1] == max(count - 1, 1)), tile)

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """The ids of one image, with those of a `tile` for each of its tiles."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its processor marks tiles.")

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The tiles of a row's images."""
        first = sum(self.count_tiles(range(items.start)))
        tiles = range(first, first + sum(self.count_tiles(items)))
        return super().select_inputs(config, inputs, modality, row, tiles)


def show_overview(tiles: Tensor, overview: Tensor, layout: Layout) -> None:
    """Let an `overview` (c, h, w) show the `tiles` (n, c, h, w), in rows and columns. Both become squares of colour."""
    rows, columns = layout
    tiles.copy_(tiles[..., ::BLOCK, ::BLOCK].repeat_interleave(BLOCK, -1).repeat_interleave(BLOCK, -2))
    mosaic = torch.cat([torch.cat(list(row), dim=-1) for row in tiles.unflatten(0, (rows, columns))], dim=-2)
    overview.copy_(adaptive_avg_pool2d(mosaic, (overview.shape[-2], overview.shape[-1])))
