"""How an image of patches is encoded in part: the smaller image of a first glance, and the windows to choose from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from foveate.models.tile_encoder import Box
from foveate.models.visual_input import Grid

GLANCE = Fraction(1, 2)  # of what may be encoded, for the smaller image
BLOCK = 4  # merge units along a side of a window, where the tower has none: as many as in Qwen2.5-VL


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """An image and what of it may be encoded; numbers are those of its merge units, frame by frame and row by row.

    Args:
        grid: (t, h, w) of the image in merge units.
        coarse: The same of the smaller image; that of the image itself where all of it is encoded at once.
        places: (m,) the unit in the middle of what each token of the smaller image shows.
        windows: The units of each window; none where all of the image is encoded at once.
        boxes: Where each window lies.
        limit: How many units may go through the tower at full size.
        share: The share of the image that may go through it, at both sizes together.
    """

    grid: Grid
    coarse: Grid
    places: Tensor
    windows: tuple[Tensor, ...] = ()
    boxes: tuple[Box, ...] = ()
    limit: int = 0
    share: Fraction = Fraction(1)

    @property
    def total(self) -> int:
        """The number of its merge units."""
        return math.prod(self.grid)

    def choose(self, ranking: Sequence[int]) -> list[int]:
        """The windows that fit into the limit in the order of the ranking, ascending; its first one where none fits."""
        chosen, left = list[int](), self.limit
        for number in ranking:
            if len(self.windows[number]) <= left:
                chosen.append(number)
                left -= len(self.windows[number])
        return sorted(chosen or ranking[:1])

    def mark(self, chosen: Sequence[int]) -> Tensor:
        """(total,) bool: the units of these windows."""
        units = torch.zeros(self.total, dtype=torch.bool)
        units[torch.cat([units.new_empty(0, dtype=torch.long), *(self.windows[number] for number in chosen)])] = True
        return units


def plan_windows(grid: Grid, side: int, share: Fraction) -> WindowPlan:
    """How to encode at most `share` of an image: a half of that for a smaller image, the rest for windows.

    The smaller image has a quarter of the units at most. An image is encoded whole where these and one window are as
    much as all of it.

    Args:
        grid: (t, h, w) of the image in merge units.
        side: Merge units along a side of a window.
        share: The largest share of the units that goes through the tower, both times together; 1 for the whole image.
    """
    frames, rows, columns = grid
    coarse = (frames, *_shrink(rows, columns, min(Fraction(1, 4), GLANCE * share)))
    tops, lefts = range(0, rows, side), range(0, columns, side)
    numbers = torch.arange(math.prod(grid)).view(grid)
    windows = tuple(numbers[:, y : y + side, x : x + side].flatten() for y in tops for x in lefts)
    total, glance = math.prod(grid), math.prod(coarse)
    if share >= 1 or glance + max(map(len, windows)) >= total:
        return WindowPlan(grid, grid, numbers.flatten())
    boxes = tuple(
        (y / rows, x / columns, min(1, (y + side) / rows), min(1, (x + side) / columns)) for y in tops for x in lefts
    )
    down, across = (_find_middles(*sizes) for sizes in ((coarse[1], rows), (coarse[2], columns)))
    places = numbers[:, down][:, :, across].flatten()
    return WindowPlan(grid, coarse, places, windows, boxes, math.floor(share * total) - glance, share)


def _shrink(rows: int, columns: int, share: Fraction) -> tuple[int, int]:
    """A size of about the same shape with at most this share of the area, of one unit at least."""
    short, long = sorted((rows, columns))
    less = max(1, math.floor(short * math.sqrt(share)))
    more = max(1, min(math.floor(long * math.sqrt(share)), math.floor(share * short * long / less)))
    return (less, more) if rows <= columns else (more, less)


def _find_middles(coarse: int, fine: int) -> Tensor:
    """Which of `fine` equal steps of [0, 1] holds the middle of each of `coarse` ones."""
    return ((2 * torch.arange(coarse) + 1) * fine).div(2 * coarse, rounding_mode="floor")


def shrink_patches(patches: Tensor, grid: Grid, coarse: Grid, merge: int, size: int) -> Tensor:
    """The patches (n, c) of an image, box-averaged to a smaller image of `coarse` merge units.

    Args:
        patches: (t h w merge^2, c size^2) flattened patches, merge unit after merge unit; all that a patch holds of one
            channel or frame stands together.
        grid: (t, h, w) of the image in merge units.
        coarse: The same of the smaller image.
        merge: Patches along a side of a merge unit.
        size: Pixels along a side of a patch.
    """
    if coarse == grid:
        return patches
    frames, rows, columns = grid
    pixels = patches.reshape(frames, rows, columns, merge, merge, -1, size, size).permute(0, 5, 1, 3, 6, 2, 4, 7)
    image = pixels.reshape(frames, -1, rows * merge * size, columns * merge * size).float()
    small = interpolate(image, (coarse[1] * merge * size, coarse[2] * merge * size), mode="area").to(patches.dtype)
    cells = small.view(frames, -1, coarse[1], merge, size, coarse[2], merge, size).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return cells.reshape(-1, patches.shape[-1])
