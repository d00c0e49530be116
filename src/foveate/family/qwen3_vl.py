"""Qwen3-VL: as Qwen2.5-VL, with interleaved M-RoPE and features of several vision layers (DeepStack)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from foveate.family.base import Mixes, keep_tokens
from foveate.family.qwen2_5_vl import TINY_IDS, Qwen25VL, tiny_text


class Qwen3VL(Qwen25VL):
    """`Qwen3VLForConditionalGeneration`."""

    summary = "Qwen3-VL (Qwen3VLForConditionalGeneration); M-RoPE, dynamic resolution, DeepStack"

    def keep(self, encoded: Any, kept: Sequence[Tensor], rows: Sequence[int], mixes: Mixes = ()) -> Any:
        """DeepStack features (layers x images) lose the same tokens."""
        return type(encoded)(
            pooler_output=keep_tokens(encoded.pooler_output, kept, rows, mixes),
            deepstack_features=[keep_tokens(layer, kept, rows, mixes) for layer in encoded.deepstack_features],
        )

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)

    def tiny_config(self) -> Any:
        """Three DeepStack layers; two text layers would leave no room for the third, so three."""
        from transformers import Qwen3VLConfig

        text = tiny_text({"rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2]})
        return Qwen3VLConfig(
            text_config={**text, "num_hidden_layers": 3},
            vision_config={
                "depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
                "patch_size": 4, "deepstack_visual_indexes": [0, 1, 2], "num_position_embeddings": 64,
            },
            **TINY_IDS,
        )  # fmt: skip
