"""HY-V4-VL: pictures of any size whose rows end in a newline token, M-RoPE, sparse attention with an indexer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.item import Grid
from foveate.models.patches import Patches


class HYV4VL(Patches):
    """`HYV4VLForConditionalGeneration`. The sparse attention picks among the kept tokens."""

    summary = "HY-V4-VL; M-RoPE, dynamic resolution, newline tokens stay, sparse attention with an indexer"
    tiny = {
        "text_config": {
            "num_hidden_layers": 3, "head_dim": 8, "num_attention_heads": 4, "num_key_value_heads": 4,
            "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "indexer_types": ["full", "full", "shared"], "index_topk": 16,
            "index_head_dim": 16, "index_n_heads": 8, "mlp_layer_types": ["dense", "sparse", "sparse"],
            "layer_types": ["indexed_attention"] * 3, "hc_mult": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
        },
        "vision_config": {"patch_size": 4, "max_image_size": 64},
    }  # fmt: skip

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """With a column of newlines; None where the inputs do not say."""
        if inputs.get(f"{modality}_grid_thw") is None:
            return [None] * len(features)
        found = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0], grid[1], grid[2] + 1) for grid in found]

    def fixed(
        self, model: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Tensor | None]:
        """Newlines, the last of each row."""
        newline = model.base_model.vision_tower.patch_merger.image_newline
        return [(feature == newline.to(feature)).all(-1) for feature in features]
