"""Florence-2: pictures among the words of an encoder, whose output a decoder attends across to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.conformance.families.encoder_decoder import TinyEncoderDecoder
from foveate.models.base import Inputs
from foveate.models.item import Item


class TinyFlorence2(TinyEncoderDecoder):
    """Tiny models of `Florence2`."""

    pads_left = False

    overrides = {
        "text_config": {
            "model_type": "bart", "d_model": 64, "bos_token_id": 300, "eos_token_id": 301, "pad_token_id": 302,
            "decoder_start_token_id": 301, "forced_eos_token_id": None,
        },
        "vision_config": {
            "depths": [1, 1, 1, 1], "embed_dim": [16, 16, 16, 32], "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2], "window_size": 4, "projection_dim": 64,
        },
        "image_token_id": 303,
    }  # fmt: skip

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[Item], kept: Sequence[Tensor]) -> dict[str, Any]:
        """It takes no positions."""
        made = super().mask_dropped(model, inputs, items, kept)
        return {name: value for name, value in made.items() if name != "position_ids"}

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures of 2 x 2 tokens."""
        return {"pixel_values": torch.randn(sum(rows), 3, 64, 64, generator=rng)}
