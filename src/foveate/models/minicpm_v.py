"""MiniCPM-V: an image, its slices and every frame of a video as crops of any size, patches of all in one long strip."""

from dataclasses import replace
from math import isqrt
from typing import Any

from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.prompt_rows import PromptRow, Starts, starts_with_kind
from foveate.models.sequence import count_positions
from foveate.models.tiling import Shape, TiledFamily

SIZE_INPUTS = {"image": "target_sizes", "video": "target_sizes_videos"}


class MiniCPMV(TiledFamily):
    """MiniCPM-V 4.6, MiniCPM-OCR; linear attention, dynamic resolution, slices, a budget for each frame.

    An image is its overview and slices. Every frame of a video is a visual input: no input tells where a video ends.
    The state of the linear layers runs over the kept tokens.
    """

    traits = replace(TiledFamily.traits, versions=">=5.20", overview="first", modalities=("image", "video"))

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """One mark stands before an overview, another one before a slice."""
        return starts_with_kind(row)

    def tile_shapes(self, config: Any, inputs: Inputs, modality: str) -> list[Shape]:
        """The side of what one token stands for follows from the counts."""
        if inputs.get(SIZE_INPUTS[modality]) is None:
            return []
        sizes: list[list[int]] = inputs[SIZE_INPUTS[modality]].tolist()
        side = isqrt(sum(h * w for h, w in sizes) // int(self.placeholders(config, inputs, modality).sum()))
        return [(h // side, w // side) for h, w in sizes]

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """All axes alike: four rows tell the model's linear layers and masks from gaps in the count."""
        return count_positions(mask).expand(4, -1, -1)


class MiniCPMV47(MiniCPMV):
    """MiniCPM-V 4.7; M-RoPE on a canvas, linear attention, dynamic resolution, slices, a budget a frame."""

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """Slices lie on a canvas that the overview is stretched over; without their sizes the stock model counts."""
        if all(inputs.get(name) is None for name in SIZE_INPUTS.values()):
            return super().positions(model, inputs, mask)
        return Family.positions(self, model, inputs, mask)
