"""Inkling: a token for every 40 x 40 pixels; attention by distance, and short convolutions over the neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, cycle, groupby, takewhile
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.item import Grid
from foveate.models.kept import kept_output
from foveate.models.patches import Patches

PATCHES = (6, 9, 4, 8)  # of the example's pictures, which come before the prompt that tells them apart


class Inkling2(Patches):
    """`Inkling2ForConditionalGeneration`. Distances and local windows count kept tokens."""

    summary = "Inkling 2; distances instead of positions, short convolutions, local windows"
    modalities = ("image",)
    counted = True
    shapes = {"image": ((1, 2, 3), (1, 3, 3), (1, 2, 2), (1, 4, 2))}
    tiny = {
        "text_config": {
            "hidden_size": 64, "num_hidden_layers": 3, "layer_types": ["hybrid_sliding", "hybrid", "hybrid"],
            "unpadded_vocab_size": 320, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16,
            "rel_extent": 32, "n_layers_per_attn_res_block": 2,
            "final_logit_softcapping": 1e4,  # the laws compare plain logits
        },
        "vision_config": {"posemb_grid_size": 4, "projection_hidden_dim": 32, "text_hidden_size": 64},
    }  # fmt: skip

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """The processor counts tokens, not patches."""
        thw = inputs.get("image_grid_thw")
        return [None] * len(features) if thw is None else [(t, h, w) for t, h, w in thw.tolist()]

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """A token's whole square of the picture."""
        side = config.vision_config.patch_size * config.vision_config.spatial_merge_size
        return (side, side, 3)


class Inkling(Family):
    """`InklingForConditionalGeneration`. Distances and local windows count kept tokens.

    A picture is a run of placeholders: its inputs do not tell which squares belong together.
    """

    raster = False  # the inputs do not tell how wide a picture is
    summary = "Inkling; distances instead of positions, short convolutions, local windows; sounds pass through"
    counted = True
    raw = {**Family.raw, "audio": "audio_input_ids"}
    tiny = {
        "text_config": {
            "num_hidden_layers": 2, "layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": ["dense", "sparse"],
            "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16, "rel_extent": 32,
            "hidden_size": 64, "logits_mup_width_multiplier": 1.0,  # the laws compare plain logits
        },
        "vision_config": {"patch_size": 2, "n_layers": 3},
        "audio_config": {"n_mel_bins": 4, "mel_vocab_size": 8},
    }  # fmt: skip

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The tower gives all squares in one row."""
        encoded = super().encode(model, inputs, modality)
        if not isinstance(encoded.pooler_output, Tensor):
            return encoded
        tokens = encoded.pooler_output.flatten(0, 1)
        sizes = self.sizes(model.config, inputs, len(tokens))
        if sum(sizes) != len(tokens):
            sizes = [len(tokens)]  # `items` says that it does not match
        return kept_output(encoded, pooler_output=tokens.split(sizes))

    def sizes(self, config: Any, inputs: Inputs, total: int) -> list[int]:
        """How many tokens every picture has; without a prompt, those of the example."""
        if "input_ids" not in inputs:
            counts = takewhile(lambda end: end <= total, accumulate(cycle(PATCHES)))
            return [PATCHES[i % len(PATCHES)] for i, _ in enumerate(counts)]
        rows = [groupby(row) for row in self.placeholders(config, inputs).tolist()]
        return [len(list(run)) for row in rows for is_picture, run in row if is_picture]

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Pictures of different sizes."""
        vision = config.vision_config
        total = sum(PATCHES[i % len(PATCHES)] for i in range(sum(rows)))
        shape = (total, vision.temporal_patch_size, vision.patch_size, vision.patch_size, 3)
        return {"pixel_values": torch.randn(shape, generator=generator)}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Squares of all pictures lie in one tensor."""
        ends = [0, *accumulate(self.sizes(config, inputs, len(inputs["pixel_values"])))]
        return {"pixel_values": inputs["pixel_values"][ends[items.start] : ends[items.stop]]}
