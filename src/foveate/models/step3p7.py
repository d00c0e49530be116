"""Step-3.7: a picture's tiles, each between marks, then the whole of it; a mixture of experts with local windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Extras, Family, Inputs
from foveate.models.item import Grid, Item, View, Views, squares


class Step3p7(Family):
    """`Step3p7ForConditionalGeneration`; the budget is a whole picture's, local windows count kept tokens."""

    overview = "last"
    summary = "Step-3.7; tiles, local windows, mixture of experts"

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """A square for a picture without tiles."""
        side = token_side(config, config.vision_config.image_size)
        return [(1, side, side) if len(feature) == side**2 else None for feature in features]

    def views(self, config: Any, inputs: Inputs, item: Item) -> Views:
        """Squares: the tiles, whose side the processor sets, then the picture, whose side the configuration does."""
        side = token_side(config, config.vision_config.image_size)
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


def token_side(config: Any, pixels: int) -> int:
    """Tokens along the side of a square picture: patches, halved twice by strided convolutions."""
    patches = int(pixels // config.vision_config.patch_size)
    return -(-patches // 4)
