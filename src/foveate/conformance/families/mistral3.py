"""Mistral 3 and LightOnOCR: images of different sizes, padded to the largest."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.mistral3 import IMG_BREAK, IMG_END
from foveate.models.visual_input import Grid

SIDES = ((2, 3), (3, 3), (2, 2), (4, 2))  # (h, w) in tokens


class TinyImageSizes(TinyFamily):
    """Tiny models of `ImageSizes`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With the sizes beside them."""
        side = self.family.side(config)
        sizes = torch.tensor([SIDES[i % len(SIDES)] for i in range(sum(rows))]) * side
        height, width = sizes.amax(0).tolist()
        pixels = torch.randn(len(sizes), 3, height, width, generator=rng)
        return {"pixel_values": pixels, "image_sizes": sizes}


class TinyMistral3(TinyImageSizes):
    """Tiny models of `Mistral3`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Row by row, each with a token that ends it."""
        if grid is None:
            return super().prompt_ids(config, modality, tokens, grid)
        row = [*super().prompt_ids(config, modality, grid[2], None), IMG_BREAK]
        return [*(row * grid[1])[:-1], IMG_END]
