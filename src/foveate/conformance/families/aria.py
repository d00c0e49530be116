"""Aria: images padded to a square."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily


class TinyAria(TinyFamily):
    """Tiny models of `Aria`."""

    item_inputs = ("pixel_mask",)
    overrides = {
        "text_config": {"model_type": "aria_text", "moe_num_experts": 4},
        "projector_patch_to_query_dict": {16: 9, 64: 12},
        "initializer_range": 0.2,  # else all queries see the same
    }

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """With padding on the right and below."""
        made = super().make_inputs(config, modality, rows, rng)
        mask = torch.ones_like(made["pixel_values"][:, 0], dtype=torch.bool)
        mask[::2, 16:] = False
        mask[1::3, :, 20:] = False
        return made | {"pixel_mask": mask}
