"""MiniCPM-V: a picture, its slices and every frame of a clip as crops of any size, patches of all in one long strip."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.item import Grid
from foveate.models.sequence import count_positions

CROPS = {  # (h, w) in patches of the example's; 4 x 4 of them make a token, 2 x 2 where nothing is merged in the tower
    "image": ((8, 12), (12, 12), (4, 8), (8, 8)),
    "video": ((8, 8), (8, 8), (12, 8)),
}
SIZES = {"image": "target_sizes", "video": "target_sizes_videos"}


class MiniCPMV(Family):
    """`MiniCPMV4_6ForConditionalGeneration`, `MiniCPMOcrForConditionalGeneration`.

    A budget is one of each crop: of a picture's overview, of each of its slices, of a frame. No input tells which crops
    are one picture. The state of the linear layers runs over the kept tokens.
    """

    versions = ">=5.20"
    overview, tiles_apart = "first", True
    summary = "MiniCPM-V 4.6, MiniCPM-OCR; linear attention, dynamic resolution, slices, a budget for each crop"
    modalities = ("image", "video")
    tiny = {
        "text_config": {
            "head_dim": 32, "rope_parameters": {
                "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2],
                "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
            },
        },
        "insert_layer_id": 0, "image_token_id": 316, "video_token_id": 317,
    }  # fmt: skip

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """The side of what one token stands for follows from the counts."""
        found: list[Grid | None] = []
        for (height, width), feature in zip(inputs[SIZES[modality]].tolist(), features, strict=True):
            side = isqrt(height * width // len(feature))
            found.append((1, height // side, width // side))
        return found

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """All axes alike: four rows tell the model's linear layers and masks from gaps in the count."""
        return count_positions(mask).expand(4, -1, -1)

    def example(self, config: Any, modality: str, rows: Sequence[int], generator: torch.Generator) -> dict[str, Any]:
        """Crops of different sizes in one strip."""
        crops = CROPS[modality]
        sizes = torch.tensor([crops[i % len(crops)] for i in range(sum(rows))])
        side = config.vision_config.patch_size
        strip = torch.randn(1, 3, side, side * int(sizes.prod(-1).sum()), generator=generator)
        return {self.raw[modality]: strip, SIZES[modality]: sizes}

    def pick(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """A piece of the strip."""
        sizes, strip = inputs[SIZES[modality]], inputs[self.raw[modality]]
        ends = [0, *(sizes.prod(-1).cumsum(0) * config.vision_config.patch_size).tolist()]
        own = slice(items.start, items.stop)
        return {self.raw[modality]: strip[..., ends[own.start] : ends[own.stop]], SIZES[modality]: sizes[own]}

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Marks around every crop; the example's wide ones stand as slices of the one before."""
        kind, words = ("slice", (22, 23)) if grid is not None and grid[1] < grid[2] else ("image", (20, 21))
        start, end = (
            getattr(config, f"{kind}_{name}_id", word) for name, word in zip(("start", "end"), words, strict=True)
        )
        return [start, *super().span(config, modality, tokens, grid), end]


class MiniCPMV47(MiniCPMV):
    """`MiniCPMV4_7ForConditionalGeneration`. A budget is one of each crop."""

    summary = "MiniCPM-V 4.7; M-RoPE on a canvas, linear attention, dynamic resolution, slices, a budget for each crop"
    tiny = {
        **MiniCPMV.tiny,
        "image_start_id": 310, "image_end_id": 311, "slice_start_id": 312, "slice_end_id": 313, "newline_id": 19,
    }  # fmt: skip

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Slices lie on a canvas that the overview is stretched over."""
        return Family.positions(self, model, inputs, mask)
