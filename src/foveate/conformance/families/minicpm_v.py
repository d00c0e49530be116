"""MiniCPM-V: overviews, slices and frames as crops, the patches of all in one long strip."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from foveate.conformance.families.tiling import TinyTiledFamily
from foveate.models.base import Inputs
from foveate.models.minicpm_v import SIZES
from foveate.models.visual_input import Grid

# (h, w) in patches of an overview (or frame) and of its slices, which lie in rows of two: each image has another number
# of patches. 4 x 4 patches make a token, or 2 x 2 where the tower merges nothing.
IMAGES: dict[str, tuple[tuple[tuple[int, int], ...], ...]] = {
    "image": (((8, 12),), ((12, 12), (4, 8), (4, 8)), ((8, 8),), ((8, 8), *((8, 4),) * 4)),
    "video": (((8, 8),), ((8, 8),), ((12, 8),)),
}
MARKS = {"image_start": 310, "image_end": 311, "slice_start": 312, "slice_end": 313}
NEWLINE = 19


class TinyMiniCPMV(TinyTiledFamily):
    """Tiny models of `MiniCPMV`."""

    def crops(self, modality: str, numbers: range) -> list[tuple[int, int]]:
        """(h, w) of all crops of these images or frames."""
        images = IMAGES[modality]
        return [crop for number in numbers for crop in images[number % len(images)]]

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Crops of different sizes."""
        sizes = torch.tensor(self.crops(modality, range(sum(rows))))
        side = config.vision_config.patch_size
        strip = torch.randn(1, 3, side, side * int(sizes.prod(-1).sum()), generator=rng)
        return {self.main_inputs[modality]: strip, SIZES[modality]: sizes}

    def encode_inputs(self, model: Any, inputs: Inputs, modality: str) -> Any:
        """The crops of each image joined."""
        encoded = self.family.encode(model, inputs, modality)
        sizes = [len(tokens) for tokens in self.family.features(encoded, modality)]
        images: list[int] = []
        start = 0
        while start < len(sizes):
            count = len(IMAGES[modality][len(images) % len(IMAGES[modality])])
            images.append(sum(sizes[start : start + count]))
            start += count
        return self.family.regroup(encoded, images)

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """The crops' part of the strip."""
        sizes, strip = inputs[SIZES[modality]], inputs[self.main_inputs[modality]]
        first = len(self.crops(modality, range(items.start)))
        own = slice(first, first + len(self.crops(modality, items)))
        ends = [0, *(sizes.prod(-1).cumsum(0) * config.vision_config.patch_size).tolist()]
        return {
            self.main_inputs[modality]: strip[..., ends[own.start] : ends[own.stop]],
            SIZES[modality]: sizes[own],
        }

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers around every crop, others around slices, and a line end between rows of slices."""
        crops = next(one for one in IMAGES[modality] if sum(map(prod, one)) in (4 * tokens, 16 * tokens))
        side = sum(map(prod, crops)) // tokens
        ids = []
        for number, crop in enumerate(crops):
            kind = "slice" if number else "image"
            names = (f"{kind}_{name}" for name in ("start", "end"))
            start, end = (getattr(config, f"{name}_id", MARKS[name]) for name in names)
            ids += [*([NEWLINE] if number == 3 else []), start]
            ids += [*[self.family.token_id(config, modality)] * (prod(crop) // side), end]
        return ids


class TinyMiniCPMV47(TinyMiniCPMV):
    """Tiny models of `MiniCPMV47`."""
