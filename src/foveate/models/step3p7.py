"""Step-3.7: a picture's tiles, each between marks, then the whole of it; a mixture of experts with local windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from foveate.models.base import Extras, Family, Inputs
from foveate.models.item import Grid, Item, View, Views, squares

TILE = 16  # the side of the example's tiles, in pixels


class Step3p7(Family):
    """`Step3p7ForConditionalGeneration`; the budget is a whole picture's, local windows count kept tokens."""

    overview = "last"
    summary = "Step-3.7; tiles, local windows, mixture of experts"
    tiny = {
        "text_config": {
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_sliding_attention_heads": 8, "sliding_window": 512,
            "layer_types": ["full_attention", "sliding_attention"], "mlp_layer_types": ["dense", "sparse"],
            "share_expert_dim": 32,
        },
        "vision_config": {"patch_size": 2},
    }  # fmt: skip
    tiles: ClassVar[tuple[int, ...]] = (2, 0, 3, 0, 1)
    """How many the pictures of the example have."""

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """A square for a picture without tiles."""
        side = _side(config, config.vision_config.image_size)
        return [(1, side, side) if len(feature) == side**2 else None for feature in features]

    def views(self, config: Any, inputs: Inputs, item: Item) -> Views:
        """Squares: the tiles, whose side the processor sets, then the picture, whose side the configuration does."""
        side = _side(config, config.vision_config.image_size)
        before = len(item.embeds) - side**2
        tile = math.isqrt(before // max(item.tiles, 1))
        tiles = squares(item.tiles, tile)
        return (*tiles, View(before, side, side, side)) if item.tiles * tile**2 == before else ()

    def items(self, model: Any, inputs: Inputs, outputs: Mapping[str, Any], extras: Sequence[Extras]) -> list[Item]:
        """With the number of tiles, where the inputs tell it."""
        found, counts = super().items(model, inputs, outputs, extras), inputs.get("num_local_patches")
        if counts is None or len(counts) != len(found):
            return found
        return [replace(item, tiles=count) for item, count in zip(found, counts.tolist(), strict=True)]

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Pictures with and without tiles."""
        counts = [self.tiles[i % len(self.tiles)] for i in range(sum(rows))]
        made = super().example(config, modality, rows, generator)
        tiles = torch.randn(sum(counts), 3, TILE, TILE, generator=generator)
        return made | {"pixel_values_local": tiles, "num_local_patches": torch.tensor(counts)}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Tiles of all pictures lie in one tensor, which is left out where there are none."""
        counts = inputs["num_local_patches"]
        ends = [0, *counts.cumsum(0).tolist()]
        tiles = inputs["pixel_values_local"][ends[items.start] : ends[items.stop]]
        own = super().pick(config, inputs, modality, row, items)
        own |= {"num_local_patches": counts[items.start : items.stop]}
        return own | {"pixel_values_local": tiles} if len(tiles) else own

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Every tile between two marks (and a newline), then the picture between two others."""
        whole, tile = (_side(config, pixels) ** 2 for pixels in (config.vision_config.image_size, TILE))
        patch = [config.image_token_id]
        tiles = [310, *patch * tile, 311, 312] * ((tokens - whole) // tile)
        return [*tiles, 313, *patch * whole, 314]


def _side(config: Any, pixels: int) -> int:
    """Tokens along the side of a square picture: patches, halved twice by strided convolutions."""
    patches = int(pixels // config.vision_config.patch_size)
    return -(-patches // 4)
