"""Nemotron-H Omni: pictures of any size as merged patches, in a language model of Mamba-2, attention and experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.item import Grid

SHAPES = ((4, 6), (6, 6), (4, 4), (8, 4))  # of the example's pictures, in patches


class NemotronHOmni(Family):
    """`NemotronH_Omni_Reasoning_V3`. Without positions of its own, the state of Mamba-2 runs over the kept tokens.

    Clips have the pictures' placeholders, so that the model takes either in one call; they are not pruned.
    """

    summary = "Nemotron-H Omni; dynamic resolution, Mamba-2 and experts; sounds pass through"
    counted = True
    tiny = {
        "text_config": {
            "layer_types": ["linear_attention", "moe", "full_attention", "mlp"], "ssm_state_size": 16,
            "mamba_num_heads": 4, "mamba_head_dim": 16, "n_groups": 2, "moe_shared_expert_intermediate_size": 32,
            "chunk_size": 16,
        },
        "vision_config": {
            "model_type": "radio", "patch_size": 8, "video_temporal_patch_size": 2, "max_img_size": 64,
            "num_cls_tokens": 1, "num_registers": 1, "torch_dtype": "float32",
        },
        "projector_hidden_size": 32, "vision_hidden_size": 32, "image_token_id": 303,
    }  # fmt: skip

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """Two by two patches are one token."""
        sizes = inputs.get("image_grid_hw")
        return [None] * len(features) if sizes is None else [(1, h // 2, w // 2) for h, w in sizes.tolist()]

    def decoder(self, model: Any) -> Any:
        """Below the language model's own head."""
        return model.language_model.model

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Pictures of different sizes."""
        sizes = torch.tensor([SHAPES[i % len(SHAPES)] for i in range(sum(rows))])
        width = 3 * config.vision_config.patch_size**2
        return {
            "pixel_values": torch.randn(int(sizes.prod(-1).sum()), width, generator=generator),
            "image_grid_hw": sizes,
        }

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Patches of all pictures lie in one long tensor."""
        sizes = inputs["image_grid_hw"]
        ends = [0, *sizes.prod(-1).cumsum(0).tolist()]
        pixels = inputs["pixel_values"][ends[items.start] : ends[items.stop]]
        return {"pixel_values": pixels, "image_grid_hw": sizes[items.start : items.stop]}
