"""Nemotron-H Omni: pictures of any size as merged patches, in a language model of Mamba-2, attention and experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs

SHAPES = ((4, 6), (6, 6), (4, 4), (8, 4))  # of the example's pictures, in patches


class TinyNemotronHOmni(TinyFamily):
    """Tiny models of `NemotronHOmni`."""

    overrides = {
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

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures of different sizes."""
        sizes = torch.tensor([SHAPES[i % len(SHAPES)] for i in range(sum(rows))])
        width = 3 * config.vision_config.patch_size**2
        return {
            "pixel_values": torch.randn(int(sizes.prod(-1).sum()), width, generator=rng),
            "image_grid_hw": sizes,
        }

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Patches of all pictures lie in one long tensor."""
        sizes = inputs["image_grid_hw"]
        ends = [0, *sizes.prod(-1).cumsum(0).tolist()]
        pixels = inputs["pixel_values"][ends[items.start] : ends[items.stop]]
        return {"pixel_values": pixels, "image_grid_hw": sizes[items.start : items.stop]}
