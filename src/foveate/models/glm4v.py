"""GLM-4V: pictures of any size, M-RoPE, and clips whose frames are spelled as pictures between two ids of their own."""

from __future__ import annotations

from typing import Any

from foveate.models.item import Grid
from foveate.models.patches import Patches
from foveate.models.shared_placeholders import InClips, Together


class Frames(Patches):
    """A clip's frames as its processor writes them."""

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """A frame, a word, and so on."""
        frames = grid[0] if modality == "video" and grid is not None else 1
        one = [config.image_start_token_id, *[config.image_token_id] * (tokens // frames), config.image_end_token_id]
        if modality == "image":
            return one
        clip = [token for number in range(frames) for token in (*one, 20 + number)]
        return [config.video_start_token_id, *clip, config.video_end_token_id]


class Glm4v(Together, Frames):
    """`Glm4vForConditionalGeneration`, `Glm4vMoeForConditionalGeneration`, `Glm46VForConditionalGeneration`.

    Also GLM-OCR, and pictures beside clips, which the stock model refuses.
    """

    summary = "GLM-4.1V, GLM-4.5V, GLM-4.6V, GLM-OCR; M-RoPE, dynamic resolution, frames with timestamps"
    tiny = {
        "text_config": {
            "rope_parameters": {
                "rope_type": "default", "mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
            },
        },
    }  # fmt: skip


class Glm5Next(InClips, Frames):
    """`Glm5NextForConditionalGeneration`.

    The state of the linear layers runs over the kept tokens, and the pools of the sparse attention's indexer hold
    neighbours among them.
    """

    summary = "GLM-5.3; no positions, linear attention, sparse attention over pools, frames with timestamps"
    tiny = {
        "text_config": {
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "qk_rope_head_dim": 0,
            "index_topk": 512, "index_head_dim": 16, "index_n_heads": 2, "linear_head_dim": 16, "linear_num_heads": 4,
            "hc_mult": 2, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        },
        "vision_config": {"projection_intermediate_size": 64},
    }  # fmt: skip
