"""Step-3.7: a picture's tiles, each between marks, then the whole of it; a mixture of experts with local windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.step3p7 import token_side
from foveate.models.visual_input import Grid

TILE = 16  # the side of the example's tiles, in pixels


class TinyStep3p7(TinyFamily):
    """Tiny models of `Step3p7`."""

    tiles: ClassVar[tuple[int, ...]] = (2, 0, 3, 0, 1)
    """How many the pictures of the example have."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures with and without tiles."""
        counts = [self.tiles[i % len(self.tiles)] for i in range(sum(rows))]
        made = super().make_inputs(config, modality, rows, rng)
        tiles = torch.randn(sum(counts), 3, TILE, TILE, generator=rng)
        return made | {"pixel_values_local": tiles, "num_local_patches": torch.tensor(counts)}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Tiles of all pictures lie in one tensor, which is left out where there are none."""
        counts = inputs["num_local_patches"]
        ends = [0, *counts.cumsum(0).tolist()]
        tiles = inputs["pixel_values_local"][ends[items.start] : ends[items.stop]]
        own = super().select_inputs(config, inputs, modality, row, items)
        own |= {"num_local_patches": counts[items.start : items.stop]}
        return own | {"pixel_values_local": tiles} if len(tiles) else own

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Every tile between two marks (and a newline), then the picture between two others."""
        whole, tile = (token_side(config, pixels) ** 2 for pixels in (config.vision_config.image_size, TILE))
        patch = [config.image_token_id]
        tiles = [310, *patch * tile, 311, 312] * ((tokens - whole) // tile)
        return [*tiles, 313, *patch * whole, 314]
