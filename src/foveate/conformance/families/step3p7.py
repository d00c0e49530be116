"""Step-3.7: an image's tiles, each between markers, then the whole image."""

from typing import Any

from foveate.conformance.families.deepseek_ocr2 import TinyLocalTiles
from foveate.models.step3p7 import token_side
from foveate.models.visual_input import Grid

TILE = 16  # the side of a tile, in pixels


class TinyStep3p7(TinyLocalTiles):
    """Tiny models of `Step3p7`."""

    tile_counts = (2, 0, 3, 0, 1)

    def image_sides(self, config: Any) -> tuple[int, int]:
        """Tiles smaller than the images."""
        return int(config.vision_config.image_size), TILE

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Every tile between two markers (and a newline), then the image between two others."""
        whole, tile = (token_side(config, pixels) ** 2 for pixels in (config.vision_config.image_size, TILE))
        patch = [config.image_token_id]
        tiles = [310, *patch * tile, 311, 312] * ((tokens - whole) // tile)
        return [*tiles, 313, *patch * whole, 314]
