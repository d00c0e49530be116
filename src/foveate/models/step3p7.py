"""Step-3.7: an image's tiles, each between marks, then the whole of it; a mixture of experts with local windows."""

import math
from dataclasses import replace
from typing import Any

from foveate.models.base import Family, Features, Grids, Inputs
from foveate.models.visual_input import Tile, Tiles, VisualInput, tile_squares


class Step3p7(Family):
    """Step-3.7; tiles, local windows, mixture of experts."""

    traits = replace(Family.traits, overview="last")

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """A square for an image without tiles."""
        side = token_side(config, config.vision_config.image_size)
        return [(1, side, side) if len(feature) == side**2 else None for feature in features]

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """Squares: the tiles, whose side the processor sets, then the image, whose side the configuration does."""
        counts, side = inputs.get("num_local_patches"), token_side(config, config.vision_config.image_size)
        count = 1 if counts is None or item.index >= len(counts) else int(counts[item.index])
        before = item.total - side**2
        tile = math.isqrt(before // max(count, 1))
        overview = Tile(before, side, side, side)
        return (*tile_squares(count, tile), overview) if count * tile**2 == before else ()


def token_side(config: Any, pixels: int) -> int:
    """Tokens along the side of a square image: patches, halved twice by strided convolutions."""
    patches = int(pixels // config.vision_config.patch_size)
    return -(-patches // 4)
