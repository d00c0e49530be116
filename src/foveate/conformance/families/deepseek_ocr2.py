"""DeepSeek-OCR 2 and Unlimited-OCR: images with and without tiles."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs


class TinyLocalTiles(TinyFamily):
    """Tiny models that take the tiles of all images in one tensor, `pixel_values_local`."""

    tile_counts: ClassVar[tuple[int, ...]] = (2, 0, 3, 0)
    """Tiles of the images, in turn."""

    def image_sides(self, config: Any) -> tuple[int, int]:
        """The sides of an image and of a tile, in pixels."""
        raise NotImplementedError

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images with and without tiles."""
        side, tile = self.image_sides(config)
        counts = [self.tile_counts[i % len(self.tile_counts)] for i in range(sum(rows))]
        return {
            "pixel_values": torch.randn(sum(rows), 3, side, side, generator=rng),
            "pixel_values_local": torch.randn(sum(counts), 3, tile, tile, generator=rng),
            "num_local_patches": torch.tensor(counts),
        }

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Without `pixel_values_local` where the row's images have no tiles."""
        counts = inputs["num_local_patches"]
        ends = [0, *counts.cumsum(0).tolist()]
        tiles = inputs["pixel_values_local"][ends[items.start] : ends[items.stop]]
        own = {name: inputs[name][items.start : items.stop] for name in ("pixel_values", "num_local_patches")}
        return {**own, "pixel_values_local": tiles} if len(tiles) else own


class TinyDeepseekOcr2(TinyLocalTiles):
    """Tiny models of `DeepseekOcr2`."""

    def image_sides(self, config: Any) -> tuple[int, int]:
        """Tiles as large as the images."""
        side = int(config.vision_config.sam_config.image_size)
        return side, side


class TinyUnlimitedOcr(TinyDeepseekOcr2):
    """Tiny models of `UnlimitedOcr`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images without tiles: the model takes their number as a list."""
        return {"pixel_values": super().make_inputs(config, modality, rows, rng)["pixel_values"]}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Images alone."""
        return {"pixel_values": inputs["pixel_values"][items.start : items.stop]}
