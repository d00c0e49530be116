"""Qwen3-VL: as Qwen2.5-VL, with interleaved M-RoPE, features of several vision layers (DeepStack), and timestamps."""

from __future__ import annotations

from typing import Any

from foveate.models.patches import Timestamped


class Qwen3VL(Timestamped):
    """`Qwen3VLForConditionalGeneration`."""

    summary = "Qwen3-VL; M-RoPE, dynamic resolution, DeepStack, a timestamp before every frame"
    in_decoder = True
    tiny = {
        "text_config": {
            "num_hidden_layers": 3, "bos_token_id": 300, "eos_token_id": 302, "pad_token_id": 300,
            "rope_parameters": {
                "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "patch_size": 4},
        "vision_start_token_id": 303, "vision_end_token_id": 304, "image_token_id": 305, "video_token_id": 306,
    }  # fmt: skip

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)
