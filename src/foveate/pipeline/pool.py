"""A first look at averages: each of its tokens is the mean of those that lie nearest to it."""

from dataclasses import replace

import torch
from torch import Tensor

from foveate.models.visual_input import VisualInput

APART = 1e4  # steps of the grid between two tiles: no token of one is near a token of the other
BLOCK = 2**24  # distances computed at once


def pool_tokens(item: VisualInput) -> VisualInput:
    """The item whose kept tokens are averages: every token goes to the nearest kept one in its image, tile or frame.

    Protected tokens keep their own values. Where nothing tells how the tokens lie, they are taken as one row.
    """
    every = torch.arange(item.total)
    free, kept = item.selectable.cpu(), item.kept.cpu()
    into = torch.searchsorted(kept, every).clamp(max=len(kept) - 1)  # a protected token is kept: its own place
    centres = free[kept].nonzero().squeeze(1)
    if len(centres):
        places = _locate_tokens(item)
        parts = places[free].split(max(1, BLOCK // len(centres)))
        into[free] = centres[torch.cat([_find_nearest(part, places[kept[centres]]) for part in parts])]
    into[kept] = torch.arange(len(kept))
    if item.absent is not None:
        into[item.absent.cpu()] = -1
    return replace(item, pooled_into=into.to(item.kept.device))


def _find_nearest(places: Tensor, centres: Tensor) -> Tensor:
    """(n,) the first of the nearest centres; exact, so that equal distances are equal."""
    return torch.cdist(places, centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)


def _locate_tokens(item: VisualInput) -> Tensor:
    """(n, 3) the frame or tile, row and column of each token, in steps of the grid."""
    if item.grid is not None or not item.tiles:
        return torch.cartesian_prod(
            *(torch.arange(size, dtype=torch.float) for size in item.grid or (1, 1, item.total))
        )
    places = torch.zeros(item.total, 3)
    for number, tile in enumerate(item.tiles):
        cells = torch.cartesian_prod(torch.arange(tile.rows), torch.arange(tile.columns)).float()
        places[tile.tokens(), 0], places[tile.tokens(), 1:] = number * APART, cells
    return places
