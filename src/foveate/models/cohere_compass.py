"""Cohere Compass: pictures as in Qwen3-VL, in a decoder of windowed layers and layers that may go without positions."""

from __future__ import annotations

from typing import Any

from foveate.models.patches import Timestamped


class CohereCompass(Timestamped):
    """`CohereCompassForConditionalGeneration`. The attention window counts kept tokens."""

    summary = "Cohere Compass; M-RoPE, windowed layers, DeepStack, a timestamp before every frame"
    tiny = {
        "text_config": {
            "num_hidden_layers": 4, "sliding_window": 512, "head_dim": 16,
            "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "sliding_attention": {
                    "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2],
                    "rope_theta": 10000.0,
                },
                "full_attention": None,
            },
        },
        "vision_config": {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "patch_size": 4},
    }  # fmt: skip

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)
