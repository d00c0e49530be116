"""MiniCPM-V: an image, its slices and every frame of a video as crops of any size, patches of all in one long strip."""

from dataclasses import replace
from math import isqrt
from typing import Any

import torch
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

    def tile_pixels(self, model: Any, inputs: Inputs) -> list[Tensor]:
        """The pixels of a patch as channels of its place."""
        return [
            strip.unflatten(-1, (h * w, -1)).movedim(-2, -1).flatten(0, 2).unflatten(-1, (h, w))
            for strip, (h, w) in self._split_strip(inputs)
        ]

    def take_tiles(self, model: Any, inputs: Inputs, tiles: Tensor) -> dict[str, Any]:
        """Their parts of the strip."""
        parts, sizes = self._split_strip(inputs), inputs["target_sizes"]
        strip = torch.cat([parts[number][0] for number in tiles.tolist()], dim=-1)[None]
        own = {"pixel_values": strip, "target_sizes": sizes[tiles.to(sizes.device)]}
        return self.encoder_inputs(model, inputs) | own

    def _split_strip(self, inputs: Inputs) -> list[tuple[Tensor, tuple[int, int]]]:
        """The pixels (c, side, h * w * side) of every crop, and (h, w) of its patches."""
        sizes, (strip,) = inputs["target_sizes"].tolist(), inputs["pixel_values"]
        side = strip.shape[-2]
        parts = strip.split([h * w * side for h, w in sizes], dim=-1)
        return [(part, (h, w)) for part, (h, w) in zip(parts, sizes, strict=True)]

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
