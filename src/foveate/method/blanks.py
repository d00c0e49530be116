"""Which merge units of an image are blank as a neighbour is, and which of a video are as in the frame before."""

import torch
from torch import Tensor

BLANK = 0.02  # the threshold of `skip="blank"`: five of 255 levels, as much as JPEG and scanners leave of paper
ROUNDS = 3  # runs that drift away from their first unit are cut so often
BLOCK = 2**22  # values compared at once


def find_representatives(units: Tensor, grid: tuple[int, int, int], threshold: float) -> Tensor:
    """For every merge unit the unit that stands for it: itself, or one whose pixels differ by at most the threshold.

    A unit that is near to the one at its place in the frame before is linked to it; else a unit of one colour that is
    near to the one above, or else to the one on its left. The first unit of such a run stands for those of its units
    that are near to it; near to the next one is not enough, or a slow gradient were one run. Those that are not form
    runs among themselves, `ROUNDS` times in all; what is left then stands for itself. Inside a frame a unit with
    something on it always does: of a row of equal signs, or of the edge of a bar, each part says where it is.

    Args:
        units: (n, s, c, p) the pixel values of each unit in raster order: patches, channels, pixels. NaN is near to
            nothing.
        grid: (t, h, w) of the units.
        threshold: The largest difference of two values at the same place of two units that are near to each other, and
            of two values of a channel of a unit of one colour, as a share of the range of all values: 0 for equal ones.

    Returns:
        (n,) indices. Of the units that stand for others each stands for itself.
    """
    t, h, w = grid
    places = torch.arange(len(units), device=units.device)
    limit = threshold * (units.amax().float() - units.amin().float())
    limit = limit.where(limit.isfinite(), torch.nan)
    is_blank = (units.amax((1, 3)).float() - units.amin((1, 3)).float()).amax(1) <= limit
    links = places
    for step, size, allowed in ((1, w, is_blank), (w, h, is_blank), (h * w, t, True)):
        if size > 1:
            before = torch.where(places // step % size > 0, places - step, places)
            near = (before < places) & allowed & (_measure_distances(units, places, before) <= limit)
            links = before.where(near, links)
    result, is_open = places, torch.ones_like(places, dtype=torch.bool)
    for _ in range(ROUNDS):
        firsts = links.where(is_open & is_open[links], places)
        for _ in range((t + h + w).bit_length()):  # each step doubles how far back it looks
            firsts = firsts[firsts]
        near = is_open & (_measure_distances(units, places, firsts) <= limit)
        result, is_open = firsts.where(near, result), is_open & ~near
    return result


def _measure_distances(units: Tensor, some: Tensor, others: Tensor) -> Tensor:
    """(k,) the largest difference of two values at the same place, for the units `some` (k,) and `others` (k,)."""
    size = max(1, BLOCK // units[0].numel())
    pairs = zip(some.split(size), others.split(size), strict=True)
    return torch.cat([(units[one].float() - units[other].float()).abs().amax((1, 2, 3)) for one, other in pairs])
