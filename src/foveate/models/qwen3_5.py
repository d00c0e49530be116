"""Qwen3.5: merged patches of any size, M-RoPE, and three layers of gated delta rule for one of attention."""

from __future__ import annotations

from foveate.models.patches import Timestamped


class Qwen35(Timestamped):
    """`Qwen3_5ForConditionalGeneration`, `Qwen3_5MoeForConditionalGeneration`.

    The state of the linear layers runs over the kept tokens.
    """

    summary = "Qwen3.5, dense or mixture of experts; M-RoPE, linear attention, a timestamp before every frame"
    tiny = {
        "text_config": {
            "head_dim": 32, "rope_parameters": {
                "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2],
                "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
            },
        },
        "vision_config": {"patch_size": 4},
    }  # fmt: skip
