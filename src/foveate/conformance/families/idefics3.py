"""Idefics2, Idefics3, SmolVLM and Granite Docling: tiles of a fixed number of tokens, rows padded with blank tiles."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.tiling import Layout, TinyTiledFamily, show_overview
from foveate.conformance.tiny_config import image_size
from foveate.models.base import Inputs

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
