"""Molmo 2: an image as an overview and a raster of tiles, their tokens pooled from patches."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.conformance.families.shared_placeholders import TinyTogether
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid

OVERVIEW, COLUMNS = (2, 2), 3  # (h, w) of the overviews in tokens, and the columns of the rasters
ROWS = (3, 4, 2)  # of the rasters, in turn
VIDEOS = ((2, 2, 3), (3, 2, 2))  # (t, h, w) in tokens


class TinyMolmo2(TinyTogether):
    """Tiny models of `Molmo2`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Two crops for an image, one for a frame; a token pools three or four patches of its own image or video."""
        vision = config.vision_config
        count, patches = sum(rows), vision.num_position_embeddings
        if modality == "image":
            grids = torch.tensor([(*OVERVIEW, ROWS[i % len(ROWS)], COLUMNS) for i in range(count)])
            crops, tokens = [2] * count, (grids[:, :2].prod(-1) + grids[:, 2:].prod(-1)).tolist()
        else:
            grids = torch.tensor([VIDEOS[i % len(VIDEOS)] for i in range(count)])
            crops, tokens = grids[:, 0].tolist(), grids.prod(-1).tolist()
        pooling, start = [], 0
        for own, size in zip(crops, tokens, strict=True):
            pooling.append(torch.randint(start, start + own * patches, (size, 4), generator=rng))
            pooling[-1][::3, -1] = -1
            start += own * patches
        pixels = torch.randn(sum(crops), patches, 3 * vision.patch_size**2, generator=rng)
        made = {self.main_inputs[modality]: pixels, f"{modality}_token_pooling": torch.cat(pooling)}
        made[f"{modality}_grids"] = grids
        return made | ({"image_num_crops": torch.tensor(crops)} if modality == "image" else {})

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Pooled patches are numbered from the row's first image on."""
        grids, pixels, crops = inputs["image_grids"], inputs["pixel_values"], inputs["image_num_crops"]
        own, (first, last) = slice(items.start, items.stop), _ends(crops, items)
        tokens = grids[:, 0] * grids[:, 1] + grids[:, 2] * grids[:, 3]
        pooling = inputs["image_token_pooling"][slice(*_ends(tokens, items))]
        pooling = torch.where(pooling < 0, pooling, pooling - first * pixels.shape[1])
        return {
            "pixel_values": pixels[first:last], "image_token_pooling": pooling, "image_grids": grids[own],
            "image_num_crops": crops[own],
        }  # fmt: skip

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Overview and raster with a token at the end of each row, or frames with two text tokens before each."""
        patch, end = config.image_patch_id, config.image_end_token_id
        if grid is not None:
            frame = [config.frame_start_token_id, *[patch] * (grid[1] * grid[2]), config.frame_end_token_id]
            return [token for number in range(grid[0]) for token in (20 + number, 19, *frame)]
        column = patch + 1
        small = [*[patch] * OVERVIEW[1], column] * OVERVIEW[0]
        large = [*[patch] * COLUMNS, column] * ((tokens - OVERVIEW[0] * OVERVIEW[1]) // COLUMNS)
        return [config.low_res_image_start_token_id, *small, end, config.image_start_token_id, *large, end]


def _ends(sizes: Tensor, items: range) -> tuple[int, int]:
    """Where the pieces of these items begin and end."""
    ends = [0, *sizes.cumsum(0).tolist()]
    return ends[items.start], ends[items.stop]
