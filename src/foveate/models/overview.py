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
    unlike, spread = _compare(tiles, overview, rows)
    if spread < FLAT:
        return None if unlike < FLAT else False
    return unlike / spread < UNLIKE


def _compare(tiles: Sequence[Tensor], overview: Tensor, rows: int) -> tuple[float, float]:
    """The mean square by which tiles in `rows` rows differ from their overview, and the overview's variance."""
    columns = len(tiles) // rows
    size = -(-CELLS // rows), -(-CELLS // columns)
    cells = [adaptive_avg_pool2d(tile.float(), size) for tile in tiles]
    lines = [torch.cat(cells[row * columns : (row + 1) * columns], dim=-1) for row in range(rows)]
    mosaic = torch.cat(lines, dim=-2)
    whole = adaptive_avg_pool2d(overview.float(), (mosaic.shape[-2], mosaic.shape[-1]))
    spread = (whole - whole.mean((-2, -1), keepdim=True)).square().mean()
    return float((mosaic - whole).square().mean()), float(spread)


def find_rows(tiles: Sequence[Tensor], overview: Tensor) -> int:
    """The number of rows in which `tiles`, (c, h, w) each, differ least from their `overview`."""
    return min(_list_rows(len(tiles)), key=lambda rows: _compare(tiles, overview, rows)[0])


def _list_rows(count: int) -> list[int]:
    """The numbers of rows that so many tiles may lie in."""
    return [rows for rows in range(1, count + 1) if count % rows == 0]


def is_overview_of_any(tiles: Sequence[Tensor], overview: Tensor) -> bool | None:
    """`is_overview` for any number of rows that the tiles may lie in."""
    answers = [is_overview(tiles, overview, rows) for rows in _list_rows(len(tiles))]
    return None if None in answers else any(answers)
