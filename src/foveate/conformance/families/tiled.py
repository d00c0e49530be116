"""Images in tiles: the layouts that all of these families share, then Gemma 3 and the Idefics."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from foveate.conformance.tiny_config import image_size
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

    def show_overviews(self, pixels: Tensor, images: int, *, overview: int) -> None:
        """Let the overview of each image, its first (0) or last (-1) entry in `pixels`, show the image's tiles."""
        start = 0
        for number, count in enumerate(self.count_tiles(range(images))):
            entries = pixels[start : start + count]
            if count > 1:
                tiles = entries[:-1] if overview else entries[1:]
                show_overview(tiles, entries[overview], self.layout(number))
            start += count

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


class TinyGemma(TinyFamily):
    """Tiny models of `Gemma`."""

    markers = ("boi_token_id", "eoi_token_id")


class TinyGemma3(TinyTiledFamily):
    """Tiny models of `Gemma3`. Some images are followed by crops of themselves, in one row or in one column."""

    def layout(self, number: int) -> Layout:
        """Of the crops."""
        rows, columns = super().layout(number)
        return (1, rows * columns) if columns > 1 else (rows, columns)

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images that show their crops: nothing else tells crops from images."""
        made = super().make_inputs(config, modality, rows, rng)
        self.show_overviews(made["pixel_values"], sum(rows), overview=0)
        return made

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """Markers around every image and crop; text between an image and its crops, a blank between two crops."""
        count, image = layout[0] * layout[1], [config.boi_token_id, *tile, config.eoi_token_id]
        crops = [*range(20, 30), *[*image, 19] * (count - 1), *image] if count > 1 else []
        return [*image, *crops]

    def randomize_zeros(self, model: Any) -> None:
        """The projector starts at zero."""
        model.base_model.multi_modal_projector.mm_input_projection_weight.normal_()


FENCE, OVERVIEW, FIRST = 20, 19, 30  # the marker of a tile is FIRST + 10 * its row + its column


class TinyIdefics3(TinyTiledFamily):
    """Tiny models of `Idefics3`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Tiles of which some are part padding, and blank ones in rows that have fewer."""
        side, patch = image_size(config), config.vision_config.patch_size
        counts = [sum(self.count_tiles(images)) for images in self.split_rows(rows)]
        pixels = torch.randn(len(rows), max(counts), 3, side, side, generator=rng)
        real = torch.ones(len(rows), max(counts), side, side, dtype=torch.long)
        for row, count in enumerate(counts):
            pixels[row, count:] = 0
            real[row, 1::2, :, side - 2 * patch :] = 0
            real[row, count:] = 0
        return {"pixel_values": pixels, "pixel_attention_mask": real}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The tiles of a row are one entry."""
        names = ("pixel_values", "pixel_attention_mask")
        return {name: inputs[name][row : row + 1, : sum(self.count_tiles(items))] for name in names}

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """A fence and a marker before every tile, line ends after rows, a fence after the overview."""
        return [*(self.mark_rows(layout, tile) if layout != (1, 1) else []), FENCE, OVERVIEW, *tile, FENCE]

    def mark_rows(self, layout: Layout, tile: list[int]) -> list[int]:
        """The tiles without the overview."""
        rows = range(layout[0])
        columns = range(layout[1])
        marked = [[token for n in columns for token in (FENCE, FIRST + 10 * row + n, *tile)] for row in rows]
        return [token for row in marked for token in (*row, 10)]


class TinyIdefics2(TinyIdefics3):
    """Tiny models of `Idefics2`."""

    def layout(self, number: int) -> Layout:
        """Four quarters, or the whole alone."""
        return ((2, 2), (1, 1))[number % 2]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With overviews that show their tiles: nothing else tells tiles from images without text between."""
        made = super().make_inputs(config, modality, rows, rng)
        for row, images in enumerate(self.split_rows(rows)):
            ends = [sum(self.count_tiles(range(images.start, image + 1))) for image in images]
            for end in [end for image, end in zip(images, ends, strict=True) if self.layout(image) == (2, 2)]:
                made["pixel_attention_mask"][row, end - 5 : end] = 1
                tiles = made["pixel_values"][row, end - 5 : end]
                show_overview(tiles[:-1], tiles[-1], (2, 2))
        return made

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """One fence between two tiles."""
        return [FENCE, *[*tile, FENCE] * (5 if layout == (2, 2) else 1)]

    def randomize_zeros(self, model: Any) -> None:
        """The resampler's latents are all alike at first."""
        model.base_model.connector.perceiver_resampler.latents.normal_()


class TinyGraniteDocling(TinyIdefics3):
    """Tiny models of `GraniteDocling`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """The mask has one entry for each tile."""
        made = super().make_inputs(config, modality, rows, rng)
        return {**made, "pixel_attention_mask": made["pixel_attention_mask"].flatten(2).any(-1)}

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """An image of one tile has no overview."""
        return self.mark_rows(layout, tile) if layout == (1, 1) else super().mark_tiles(config, layout, tile)
