"""Inkling: squares of all images in one tensor."""

from collections.abc import Sequence
from itertools import accumulate, cycle
from typing import Any

import torch

from foveate.conformance.families.patches import TinyPatches
from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs

SQUARES = (6, 9, 4, 8)  # of the images, in turn


class TinyInkling2(TinyPatches):
    """Tiny models of `Inkling2`."""

    patch_grids = {"image": ((1, 2, 3), (1, 3, 3), (1, 2, 2), (1, 4, 2))}

    overrides = {
        "text_config": {
            "hidden_size": 64, "num_hidden_layers": 3, "layer_types": ["hybrid_sliding", "hybrid", "hybrid"],
            "unpadded_vocab_size": 320, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16,
            "rel_extent": 32, "n_layers_per_attn_res_block": 2,
            "final_logit_softcapping": 1e4,  # the laws compare plain logits
        },
        "vision_config": {"posemb_grid_size": 4, "projection_hidden_dim": 32, "text_hidden_size": 64},
    }  # fmt: skip

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """The square of pixels that makes one token."""
        side = config.vision_config.patch_size * config.vision_config.spatial_merge_size
        return (side, side, 3)


class TinyInkling(TinyFamily):
    """Tiny models of `Inkling`."""

    overrides = {
        "text_config": {
            "num_hidden_layers": 2, "layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": ["dense", "sparse"],
            "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "rel_extent": 32,
            "hidden_size": 64, "logits_mup_width_multiplier": 1.0,  # the laws compare plain logits
        },
        "vision_config": {"patch_size": 2, "n_layers": 3},
        "audio_config": {"n_mel_bins": 4, "mel_vocab_size": 8},
    }  # fmt: skip

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of different sizes."""
        vision = config.vision_config
        total = sum(SQUARES[i % len(SQUARES)] for i in range(sum(rows)))
        shape = (total, vision.temporal_patch_size, vision.patch_size, vision.patch_size, 3)
        return {"pixel_values": torch.randn(shape, generator=rng)}

    def encode_inputs(self, model: Any, inputs: Inputs, modality: str) -> Any:
        """With a prompt of placeholders alone: only their runs tell the images apart."""
        total, ids = len(inputs["pixel_values"]), list[int]()
        for end, size in zip(accumulate(cycle(SQUARES)), cycle(SQUARES), strict=False):
            if end > total:
                break
            ids += [*[self.family.token_id(model.config)] * size, 0]
        return super().encode_inputs(model, {**inputs, "input_ids": torch.tensor([ids])}, modality)

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The squares of the row's images."""
        ends = [0, *accumulate(self.family.sizes(config, inputs))]
        return {"pixel_values": inputs["pixel_values"][ends[items.start] : ends[items.stop]]}
