"""MiniCPM-V: a picture, its slices and every frame of a clip as crops of any size, patches of all in one long strip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.minicpm_v import SIZES
from foveate.models.visual_input import Grid

CROPS = {  # (h, w) in patches of the example's; 4 x 4 of them make a token, 2 x 2 where nothing is merged in the tower
    "image": ((8, 12), (12, 12), (4, 8), (8, 8)),
    "video": ((8, 8), (8, 8), (12, 8)),
}


class TinyMiniCPMV(TinyFamily):
    """Tiny models of `MiniCPMV`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Crops of different sizes in one strip."""
        crops = CROPS[modality]
        sizes = torch.tensor([crops[i % len(crops)] for i in range(sum(rows))])
        side = config.vision_config.patch_size
        strip = torch.randn(1, 3, side, side * int(sizes.prod(-1).sum()), generator=rng)
        return {self.family.traits.main_inputs[modality]: strip, SIZES[modality]: sizes}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """A piece of the strip."""
        sizes, strip = inputs[SIZES[modality]], inputs[self.family.traits.main_inputs[modality]]
        ends = [0, *(sizes.prod(-1).cumsum(0) * config.vision_config.patch_size).tolist()]
        own = slice(items.start, items.stop)
        return {
            self.family.traits.main_inputs[modality]: strip[..., ends[own.start] : ends[own.stop]],
            SIZES[modality]: sizes[own],
        }

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Marks around every crop; the example's wide ones stand as slices of the one before."""
        kind, words = ("slice", (22, 23)) if grid is not None and grid[1] < grid[2] else ("image", (20, 21))
        start, end = (
            getattr(config, f"{kind}_{name}_id", word) for name, word in zip(("start", "end"), words, strict=True)
        )
        return [start, *super().prompt_ids(config, modality, tokens, grid), end]
