"""DeepSeek-VL and Janus: one picture, one square of tokens, of two towers in the hybrid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.models.base import Family, Inputs


class DeepseekVLHybrid(Family):
    """`DeepseekVLHybridForConditionalGeneration`."""

    summary = "DeepSeek-VL 7B; SigLIP and SAM towers side by side"
    tiny = {
        "high_res_vision_config": {
            "output_channels": 8, "global_attn_indexes": [0], "window_size": 3, "image_size": 64, "mlp_dim": 48,
        },
    }  # fmt: skip

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Every picture in two resolutions."""
        side = config.high_res_vision_config.image_size
        sharp = torch.randn(sum(rows), 3, side, side, generator=generator)
        return super().example(config, modality, rows, generator) | {"high_res_pixel_values": sharp}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Both resolutions."""
        sharp = inputs["high_res_pixel_values"][items.start : items.stop]
        return super().pick(config, inputs, modality, row, items) | {"high_res_pixel_values": sharp}


class Janus(Family):
    """`JanusForConditionalGeneration` where it answers in words."""

    summary = "Janus and Janus-Pro; answers in words"
    tiny = {
        "vision_config": {"projection_dim": 64, "num_image_tokens": 16},
        "vq_config": {
            "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "latent_channels": 32,
            "num_embeddings": 32, "projection_dim": 64, "image_token_embed_dim": 64,
        },
    }  # fmt: skip
