"""LLaVA-NeXT and its successors: images of different shapes, in tiles."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs

MAX_TILES = 5  # the overview included


class TinyTiled(TinyFamily):
    """Tiny models of `Tiled`."""

    sizes: ClassVar[tuple[tuple[int, int], ...]] = ((40, 60), (30, 20), (64, 30), (50, 50), (20, 64))
    """(height, width) of the images in 32nds of a tile, in turn."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images padded to the same number of tiles; videos of three frames."""
        side = image_size(config)
        if modality == "video":
            return {"pixel_values_videos": torch.randn(sum(rows), 3, 3, side, side, generator=rng)}
        sizes = torch.tensor([self.sizes[i % len(self.sizes)] for i in range(sum(rows))]) * side // 32
        pixels = torch.randn(len(sizes), MAX_TILES, 3, side, side, generator=rng)
        return {"pixel_values": pixels, "image_sizes": sizes}


class TinyLlavaOnevision(TinyTiled):
    """Tiny models of `LlavaOnevision`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With the number of images of every row that has some."""
        made = super().make_inputs(config, modality, rows, rng)
        return made if modality == "video" else made | {"batch_num_images": torch.tensor([n for n in rows if n])}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the number of images."""
        own = super().select_inputs(config, inputs, modality, row, items)
        return own | {"batch_num_images": torch.tensor([len(items)])}
