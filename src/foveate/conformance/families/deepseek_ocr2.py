"""DeepSeek-OCR 2 and Unlimited-OCR: a picture's tiles, then the whole of it, then one token that ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs

SAM = {"global_attn_indexes": [1], "window_size": 4, "mlp_dim": 48, "output_channels": 16, "initializer_range": 0.02}


class TinyDeepseekOcr2(TinyFamily):
    """Tiny models of `DeepseekOcr2`."""

    overrides = {
        "text_config": {
            "num_key_value_heads": 4, "mlp_layer_types": ["dense", "sparse"], "n_group": 1, "topk_group": 1,
            "num_experts_per_tok": 2,
        },
        "vision_config": {"sam_config": {**SAM, "downsample_channels": [24, 64]}},
    }  # fmt: skip

    tiles: ClassVar[tuple[tuple[int, int], ...]] = ((2, 1), (0, 0), (1, 3), (0, 0))
    """Columns and rows of tiles in the pictures of the example."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures with and without tiles."""
        side = config.vision_config.sam_config.image_size
        counts = [x * y for x, y in (self.tiles[i % len(self.tiles)] for i in range(sum(rows)))]
        return {
            "pixel_values": torch.randn(sum(rows), 3, side, side, generator=rng),
            "pixel_values_local": torch.randn(sum(counts), 3, side, side, generator=rng),
            "num_local_patches": torch.tensor(counts),
        }

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Tiles of all pictures lie in one tensor, which is left out where there are none."""
        counts = inputs["num_local_patches"]
        ends = [0, *counts.cumsum(0).tolist()]
        tiles = inputs["pixel_values_local"][ends[items.start] : ends[items.stop]]
        own = {name: inputs[name][items.start : items.stop] for name in ("pixel_values", "num_local_patches")}
        return {**own, "pixel_values_local": tiles} if len(tiles) else own


class TinyUnlimitedOcr(TinyDeepseekOcr2):
    """Tiny models of `UnlimitedOcr`."""

    overrides = {
        "text_config": {
            "num_hidden_layers": 2, "num_key_value_heads": 4, "mlp_layer_types": ["dense", "sparse"],
        },
        "vision_config": {
            "sam_config": {**SAM, "downsample_channels": [24, 32], "patch_size": 2},
            "encoder_config": {
                "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
            },
        },
    }  # fmt: skip

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Pictures without tiles, whose numbers the model takes as lists."""
        return {"pixel_values": super().make_inputs(config, modality, rows, rng)["pixel_values"]}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """One view a picture."""
        return {"pixel_values": inputs["pixel_values"][items.start : items.stop]}
