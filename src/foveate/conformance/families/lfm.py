"""LFM2-VL and LFM3-VL: language models of short convolutions and attention; tiles, or merged patches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.lfm import TILE_MARKS
from foveate.models.visual_input import Grid

SIDES = ((2, 3), (3, 3), (2, 2), (4, 2))  # (h, w) in tokens


class TinyLfm2VL(TinyFamily):
    """Tiny models of `Lfm2VL`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Tiles of different sizes, as rows of patches padded to the longest."""
        shapes = torch.tensor([SIDES[i % len(SIDES)] for i in range(sum(rows))]) * config.downsample_factor
        longest = max(h * w for h, w in SIDES) * config.downsample_factor**2
        pixels = torch.randn(len(shapes), longest, 3 * config.vision_config.patch_size**2, generator=rng)
        mask = (torch.arange(longest) < shapes.prod(-1, keepdim=True)).long()
        return {"pixel_values": pixels, "spatial_shapes": shapes, "pixel_attention_mask": mask}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Tile by tile."""
        names = ("pixel_values", "spatial_shapes", "pixel_attention_mask")
        return {name: inputs[name][items.start : items.stop] for name in names}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """After the mark of the tile."""
        return [config.image_token_id + TILE_MARKS[0], *super().prompt_ids(config, modality, tokens, grid)]
