"""Qwen2.5-VL: pictures of any size, merged patches, three-axis rotary positions (M-RoPE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.family.base import Family, Grid, Inputs
from foveate.rewrite import count_positions

EXAMPLE_GRIDS = ((4, 6), (6, 6), (4, 4), (8, 4))  # merged tokens are a quarter of these with the usual 2 x 2 merge


class Qwen25VL(Family):
    """`Qwen2_5_VLForConditionalGeneration`, and the conventions that its successors share."""

    summary = "Qwen2.5-VL (Qwen2_5_VLForConditionalGeneration); M-RoPE, dynamic resolution"

    def grids(self, config: Any, inputs: Inputs, features: Sequence[Tensor]) -> list[Grid | None]:
        """From `image_grid_thw`, after merging."""
        merge = config.vision_config.spatial_merge_size
        return [(t, h // merge, w // merge) for t, h, w in inputs["image_grid_thw"].tolist()]

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """(4, b, L): a text row, which only masks are built from, above the temporal, height and width rows."""
        ids, config = inputs["input_ids"], model.config
        kinds = inputs.get("mm_token_type_ids")
        if kinds is None:
            kinds = (ids == config.image_token_id).int() + 2 * (ids == config.video_token_id).int()
        axes, _ = model.base_model.get_rope_index(
            ids, mm_token_type_ids=kinds, image_grid_thw=inputs["image_grid_thw"], attention_mask=mask
        )
        return torch.cat([count_positions(mask)[None], axes.to(mask.device)])

    def tiny_config(self) -> Any:
        """Four vision layers, two of them windowed; two text layers."""
        from transformers import Qwen2_5_VLConfig

        return Qwen2_5_VLConfig(
            text_config=tiny_text({"rope_type": "default", "type": "mrope", "mrope_section": [2, 3, 3]}),
            vision_config={
                "depth": 4, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64,
                "patch_size": 4, "fullatt_block_indexes": [1, 3], "window_size": 16,
            },
            **TINY_IDS,
        )  # fmt: skip

    def example_images(self, config: Any, count: int, generator: torch.Generator) -> tuple[dict[str, Any], list[int]]:
        """Pictures of different sizes, as flattened patches."""
        vision = config.vision_config
        merge = vision.spatial_merge_size
        grids = [EXAMPLE_GRIDS[i % len(EXAMPLE_GRIDS)] for i in range(count)]
        width = 3 * vision.temporal_patch_size * vision.patch_size**2
        pixels = torch.randn(sum(h * w for h, w in grids), width, generator=generator)
        inputs = {"pixel_values": pixels, "image_grid_thw": torch.tensor([(1, h, w) for h, w in grids])}
        return inputs, [h * w // merge**2 for h, w in grids]

    def pick_images(self, inputs: Inputs, pictures: range) -> dict[str, Any]:
        """Patches of all pictures lie in one long tensor."""
        grids = inputs["image_grid_thw"]
        ends = [0, *grids.prod(-1).cumsum(0).tolist()]
        chosen = slice(pictures.start, pictures.stop)
        pixels = inputs["pixel_values"][ends[pictures.start] : ends[pictures.stop]]
        return {"pixel_values": pixels, "image_grid_thw": grids[chosen]}

    def image_span(self, config: Any, tokens: int) -> list[int]:
        """The placeholders stand between the vision start and end tokens."""
        return [config.vision_start_token_id, *super().image_span(config, tokens), config.vision_end_token_id]


TINY_IDS: dict[str, Any] = {
    "image_token_id": 305,
    "video_token_id": 306,
    "vision_start_token_id": 303,
    "vision_end_token_id": 304,
}


def tiny_text(rope: dict[str, Any]) -> dict[str, Any]:
    """A two-layer text model whose rotary settings are `rope`."""
    return {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "bos_token_id": 300,
        "eos_token_id": 302, "pad_token_id": 300, "rope_parameters": {"rope_theta": 10000.0, **rope},
    }  # fmt: skip
