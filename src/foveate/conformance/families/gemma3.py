"""Gemma 3: images of one size, some with crops, between markers of its own."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.tiling import Layout, TinyTiledFamily, show_overview
from foveate.conformance.tiny_family import TinyFamily


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
        done = 0
        for number in range(sum(rows)):
            count = self.count_tiles(range(number, number + 1))[0]
            tiles = made["pixel_values"][done : done + count]
            if count > 1:
                show_overview(tiles[1:], tiles[0], self.layout(number))
            done += count
        return made

    def mark_tiles(self, config: Any, layout: Layout, tile: list[int]) -> list[int]:
        """Markers around every image and crop; text between an image and its crops, a blank between two crops."""
        count, image = layout[0] * layout[1], [config.boi_token_id, *tile, config.eoi_token_id]
        crops = [*range(20, 30), *[*image, 19] * (count - 1), *image] if count > 1 else []
        return [*image, *crops]

    def randomize_zeros(self, model: Any) -> None:
        """The projector starts at zero."""
        model.base_model.multi_modal_projector.mm_input_projection_weight.normal_()
