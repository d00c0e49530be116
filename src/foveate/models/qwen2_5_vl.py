"""Qwen2.5-VL: pictures of any size, merged patches, three-axis rotary positions (M-RoPE)."""

from __future__ import annotations

from foveate.models.patches import Patches


class Qwen25VL(Patches):
    """`Qwen2_5_VLForConditionalGeneration`."""

    summary = "Qwen2.5-VL; M-RoPE, dynamic resolution, window attention in the tower"
    in_decoder = True
    tiny = {
        "text_config": {
            "num_hidden_layers": 2, "bos_token_id": 300, "eos_token_id": 302, "pad_token_id": 300,
            "rope_parameters": {
                "rope_type": "default", "type": "mrope", "mrope_section": [2, 3, 3], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"depth": 4, "fullatt_block_indexes": [1, 3], "window_size": 16, "patch_size": 4},
        "vision_start_token_id": 303, "vision_end_token_id": 304, "image_token_id": 305, "video_token_id": 306,
    }  # fmt: skip
