"""Mistral 3: Pixtral's tower, pictures of any size in merged patches, every row of which ends in a token of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.item import Grid
from foveate.pipeline.question import Template

TEKKEN_VOCABULARY = 131072
IMG_BREAK, IMG_END = 12, 13
INST, INST_END = 3, 4
SIDES = ((2, 3), (3, 3), (2, 2), (4, 2))  # (h, w) in tokens


class ImageSizes(Family):
    """Pictures of any size, padded to the largest: `image_sizes` says how large each is."""

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """As `image_sizes` says, in merged patches."""
        sizes = inputs.get("image_sizes")
        if sizes is None:
            return [None] * len(features)
        side = self.side(config)
        return [(1, int(h) // side, int(w) // side) for h, w in sizes]

    def side(self, config: Any) -> int:
        """How many pixels a token is wide."""
        return int(config.vision_config.patch_size * config.spatial_merge_size)

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Pictures of different sizes."""
        side = self.side(config)
        sizes = torch.tensor([SIDES[i % len(SIDES)] for i in range(sum(rows))]) * side
        height, width = sizes.amax(0).tolist()
        pixels = torch.randn(len(sizes), 3, height, width, generator=generator)
        return {"pixel_values": pixels, "image_sizes": sizes}


class Mistral3(ImageSizes):
    """`Mistral3ForConditionalGeneration`, of Mistral or (Mistral Small 4) Mistral 4."""

    summary = "Mistral Small 3.1 and 4 and kin; Pixtral's tower, dynamic resolution, ends of rows stay"
    tiny = {"vision_config": {"image_size": 64, "patch_size": 4}}

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Row by row, each with its end."""
        if grid is None:
            return super().span(config, modality, tokens, grid)
        row = [*super().span(config, modality, grid[2], None), IMG_BREAK]
        return [*(row * grid[1])[:-1], IMG_END]

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured; where the vocabulary is Tekken's, [INST] and [/INST] open turns."""
        plain = super().template(config, stop_ids)
        if plain.roles or config.get_text_config().vocab_size < TEKKEN_VOCABULARY:
            return plain
        return replace(plain, roles=(((INST,),), ((INST_END,),)), filler=frozenset({IMG_BREAK, IMG_END}))


class MistralLarge4(Mistral3):
    """`MistralLarge4ForConditionalGeneration`. The sparse attention picks among the kept tokens."""

    summary = "Mistral Large 4; Pixtral's tower, ends of rows stay, sparse attention with an indexer, experts"
    tiny = {
        "text_config": {
            "num_hidden_layers": 5, "no_rope_layers": [1, 1, 1, 0, 1], "kv_source_layers": [0, 1, 1, 3, 1],
            "indexer_types": ["full", "full", "shared", "full", "full"], "index_topk": 16, "index_head_dim": 16,
            "index_n_heads": 8, "num_key_value_heads": 4, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "head_dim": 8,
        },
        "vision_config": {"image_size": 64, "patch_size": 4},
    }  # fmt: skip


class LightOnOcr(ImageSizes):
    """`LightOnOcrForConditionalGeneration`. Its prompts seldom hold words, and all text of a page counts."""

    summary = "LightOnOCR; Pixtral's tower, dynamic resolution; made to read whole pages"
    tiny = {"vision_config": {"image_size": 64, "patch_size": 4}}
