"""Aria: learned queries look at a picture's patches, as many as its resolution needs; a mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.models.base import Family, Inputs


class Aria(Family):
    """`AriaForConditionalGeneration`; the budget is a crop's."""

    raster = False  # a query belongs to no place
    summary = "Aria; queries without places, every crop counts as a picture"
    tiny = {
        "text_config": {"model_type": "aria_text", "moe_num_experts": 4},
        "projector_patch_to_query_dict": {16: 9, 64: 12},
        "initializer_range": 0.2,  # else all queries see the same
    }

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Pictures padded to a square, on the right and below."""
        made = super().example(config, modality, rows, generator)
        mask = torch.ones_like(made["pixel_values"][:, 0], dtype=torch.bool)
        mask[::2, 16:] = False
        mask[1::3, :, 20:] = False
        return made | {"pixel_mask": mask}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the mask of the padding."""
        mask = inputs["pixel_mask"][items.start : items.stop]
        return super().pick(config, inputs, modality, row, items) | {"pixel_mask": mask}
