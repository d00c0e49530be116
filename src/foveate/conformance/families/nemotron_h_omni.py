"""Nemotron-H Omni: patches of all images in one tensor."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs

SHAPES = ((4, 6), (6, 6), (4, 4), (8, 4))  # (h, w) of the images in patches


class TinyNemotronHOmni(TinyFamily):
    """Tiny models of `NemotronHOmni`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes."""
        sizes = torch.tensor([SHAPES[i % len(SHAPES)] for i in range(sum(rows))])
        width = 3 * config.vision_config.patch_size**2
        return {
            "pixel_values": torch.randn(int(sizes.prod(-1).sum()), width, generator=rng),
            "image_grid_hw": sizes,
        }

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The patches of the row's images."""
        sizes = inputs["image_grid_hw"]
        ends = [0, *sizes.prod(-1).cumsum(0).tolist()]
        pixels = inputs["pixel_values"][ends[items.start] : ends[items.stop]]
        return {"pixel_values": pixels, "image_grid_hw": sizes[items.start : items.stop]}
