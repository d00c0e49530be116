"""Qwen2-VL: pictures and clips of any size, merged patches, three-axis rotary positions (M-RoPE)."""

from __future__ import annotations

from foveate.models.patches import Patches


class Qwen2VL(Patches):
    """`Qwen2VLForConditionalGeneration`."""

    summary = "Qwen2-VL; M-RoPE, dynamic resolution"
    tiny = {
        "text_config": {
            "rope_parameters": {
                "rope_type": "default", "type": "mrope", "mrope_section": [2, 3, 3], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"hidden_size": 64, "patch_size": 4},  # its hidden size is the language model's
    }  # fmt: skip
