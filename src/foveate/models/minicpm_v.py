"""MiniCPM-V: a picture, its slices and every frame of a clip as crops of any size, patches of all in one long strip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.sequence import count_positions
from foveate.models.visual_input import Grid

SIZES = {"image": "target_sizes", "video": "target_sizes_videos"}


class MiniCPMV(Family):
    """`MiniCPMV4_6ForConditionalGeneration`, `MiniCPMOcrForConditionalGeneration`.

    A budget is one of each crop: of a picture's overview, of each of its slices, of a frame. No input tells which crops
    are one picture. The state of the linear layers runs over the kept tokens.
    """

    traits = replace(
        Family.traits,
        versions=">=5.20",
        overview="first",
        summary="MiniCPM-V 4.6, MiniCPM-OCR; linear attention, dynamic resolution, slices, a budget for each crop",
        modalities=("image", "video"),
    )

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


class MiniCPMV47(MiniCPMV):
    """`MiniCPMV4_7ForConditionalGeneration`. A budget is one of each crop."""

    traits = replace(
        MiniCPMV.traits,
        summary="MiniCPM-V 4.7; M-RoPE on a canvas, linear attention, dynamic resolution, slices, a budget a crop",
    )

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Slices lie on a canvas that the overview is stretched over."""
        return Family.positions(self, model, inputs, mask)
