"""DeepSeek-OCR 2 and Unlimited-OCR: a picture's tiles, then the whole of it, then one token that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs


class TinyDeepseekOcr2(TinyFamily):
    """Tiny models of `DeepseekOcr2`."""

    tiles: ClassVar[tuple[tuple[int, int], ...]] = ((2, 1), (0, 0), (1, 3), (0, 0))
    """Columns and rows of tiles in the pictures of the example."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures with and without tiles."""
        side = config.vision_config.sam_config.image_size
        counts = [x * y for x, y in (self.tiles[i % len(self.tiles)] for i in range(sum(rows)))]
        return {
            "pixel_values": torch.randn(sum(rows), 3, side, side, generator=rng),
            "pixel_values_local": torch.randn(sum(counts), 3, side, side, generator=rng),
            "num_local_patches": torch.tensor(counts),
        }

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Tiles of all pictures lie in one tensor, which is left out where there are none."""
        counts = inputs["num_local_patches"]
        ends = [0, *counts.cumsum(0).tolist()]
        tiles = inputs["pixel_values_local"][ends[items.start] : ends[items.stop]]
        own = {name: inputs[name][items.start : items.stop] for name in ("pixel_values", "num_local_patches")}
        return {**own, "pixel_values_local": tiles} if len(tiles) else own


class TinyUnlimitedOcr(TinyDeepseekOcr2):
    """Tiny models of `UnlimitedOcr`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures without tiles, whose numbers the model takes as lists."""
        return {"pixel_values": super().make_inputs(config, modality, rows, rng)["pixel_values"]}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """One view a picture."""
        return {"pixel_values": inputs["pixel_values"][items.start : items.stop]}
