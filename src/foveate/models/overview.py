"""Whether an encoder's input shows the whole image that other inputs are the tiles of, by their pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

CELLS = 8  # along each side of an image, whose means are compared
UNLIKE = 0.1  # share of the overview's variance by which its tiles may differ: they were scaled apart from it
FLAT = 1e-6  # variance below which an image shows nothing that could be compared


def is_overview(tiles: Sequence[Tensor], overview: Tensor, rows: int) -> bool | None:
    """Whether `tiles`, (c, h, w) each, in `rows` rows show what `overview` (c, h, w) shows; None where all are flat."""
    columns = len(tiles) // rows
    size = -(-CELLS // rows), -(-CELLS // columns)
    cells = [adaptive_avg_pool2d(tile.float(), size) for tile in tiles]
    lines = [torch.cat(cells[row * columns : (row + 1) * columns], dim=-1) for row in range(rows)]
    mosaic = torch.cat(lines, dim=-2)
    whole = adaptive_avg_pool2d(overview.float(), (mosaic.shape[-2], mosaic.shape[-1]))
    spread = (whole - whole.mean((-2, -1), keepdim=True)).square().mean()
    unlike = (mosaic - whole).square().mean()
    if float(spread) < FLAT:
        return None if float(unlike) < FLAT else False
    return float(unlike / spread) < UNLIKE


def is_overview_of_any(tiles: Sequence[Tensor], overview: Tensor) -> bool | None:
    """`is_overview` for any number of rows that the tiles may lie in."""
    ways = [rows for rows in range(1, len(tiles) + 1) if len(tiles) % rows == 0]
    answers = [is_overview(tiles, overview, rows) for rows in ways]
    return None if None in answers else any(answers)
