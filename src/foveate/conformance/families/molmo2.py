"""Molmo 2: a picture as one small view and one of tiles, their tokens pooled from patches, which all see each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.conformance.families.shared_placeholders import TinyTogether
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid

SMALL, WIDTH = (2, 2), 3  # the example's small view, and the columns of its large ones
PICTURES = (3, 4, 2)  # rows of the example's large views
CLIPS = ((2, 2, 3), (3, 2, 2))


class TinyMolmo2(TinyTogether):
    """Tiny models of `Molmo2`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Two crops a picture, one a frame; tokens pool any four patches of their own picture, some of them fewer."""
        vision = config.vision_config
        count, patches = sum(rows), vision.num_position_embeddings
        if modality == "image":
            grids = torch.tensor([(*SMALL, PICTURES[i % len(PICTURES)], WIDTH) for i in range(count)])
            crops, tokens = [2] * count, (grids[:, :2].prod(-1) + grids[:, 2:].prod(-1)).tolist()
        else:
            grids = torch.tensor([CLIPS[i % len(CLIPS)] for i in range(count)])
            crops, tokens = grids[:, 0].tolist(), grids.prod(-1).tolist()
        pooling, start = [], 0
        for own, size in zip(crops, tokens, strict=True):
            pooling.append(torch.randint(start, start + own * patches, (size, 4), generator=rng))
            pooling[-1][::3, -1] = -1
            start += own * patches
        pixels = torch.randn(sum(crops), patches, 3 * vision.patch_size**2, generator=rng)
        found = {self.family.traits.main_inputs[modality]: pixels, f"{modality}_token_pooling": torch.cat(pooling)}
        found[f"{modality}_grids"] = grids
        return found | ({"image_num_crops": torch.tensor(crops)} if modality == "image" else {})

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Tokens count patches from the first picture on."""
        grids, pixels = inputs[f"{modality}_grids"], inputs[self.family.traits.main_inputs[modality]]
        if modality == "image":
            crops, tokens = inputs["image_num_crops"], grids[:, 0] * grids[:, 1] + grids[:, 2] * grids[:, 3]
        else:
            crops, tokens = grids[:, 0], grids.prod(-1)
        own, first, last = slice(items.start, items.stop), *_ends(crops, items)
        pooling = inputs[f"{modality}_token_pooling"][slice(*_ends(tokens, items))]
        pooling = torch.where(pooling < 0, pooling, pooling - first * pixels.shape[1])
        found = {self.family.traits.main_inputs[modality]: pixels[first:last], f"{modality}_token_pooling": pooling}
        found[f"{modality}_grids"] = grids[own]
        return found | ({"image_num_crops": crops[own]} if modality == "image" else {})

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Small view and large view with an end of each row, or frames with two words before each."""
        patch, end = config.image_patch_id, config.image_end_token_id
        if grid is not None:
            frame = [config.frame_start_token_id, *[patch] * (grid[1] * grid[2]), config.frame_end_token_id]
            return [token for number in range(grid[0]) for token in (20 + number, 19, *frame)]
        column = patch + 1
        small = [*[patch] * SMALL[1], column] * SMALL[0]
        large = [*[patch] * WIDTH, column] * ((tokens - SMALL[0] * SMALL[1]) // WIDTH)
        return [config.low_res_image_start_token_id, *small, end, config.image_start_token_id, *large, end]


def _ends(sizes: Tensor, items: range) -> tuple[int, int]:
    """Where the pieces of these items begin and end."""
    ends = [0, *sizes.cumsum(0).tolist()]
    return ends[items.start], ends[items.stop]
