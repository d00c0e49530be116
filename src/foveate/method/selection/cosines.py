"""Cosines between the rows of a matrix, without a normalised copy of it."""

import torch
from torch import Tensor

from foveate.method.scale import measure_rows, split_blocks

SMALLEST = 1e-12  # a shorter row counts as zeros: its cosines are 0


class Cosines:
    """The rows of (n, d), of any float type, as float32 unit vectors that are computed when they are needed.

    A normalised copy would double the memory of a long video, and writing it would take longer than the selection.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.norm = measure_rows(rows)  # (n,)
        self.scale = self.norm.clamp(min=SMALLEST).reciprocal_()

    def length(self) -> Tensor:
        """Return the lengths (n,) of the unit vectors: 1, or 0 for a row of zeros."""
        return self.norm * self.scale

    def unit(self, index: Tensor) -> Tensor:
        """Return the unit vectors (c, d) at `index` (c,)."""
        return self.rows.index_select(0, index).float() * self.scale.index_select(0, index)[:, None]

    def compute(self, vectors: Tensor) -> Tensor:
        """Compute the cosine (n, c) of every row to each of `vectors` (c, d), float32 unit vectors."""
        if self.rows.dtype == torch.float32:
            products = self.rows @ vectors.T
        else:
            products = torch.cat([block.float() @ vectors.T for block in split_blocks(self.rows)])
        return products.mul_(self.scale[:, None])
