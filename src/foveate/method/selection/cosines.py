"""Cosines between the rows of a matrix, without a copy of it."""

import torch
from torch import Tensor

BLOCK_BYTES = 8 << 20  # of rows that are turned into float32 at a time; a block stays in a CPU's cache
SMALLEST = 1e-12  # a shorter row counts as zeros: its cosines are 0


class Cosines:
    """The rows of (n, d), of any float type, as unit vectors in float32 that are made as they are needed.

    A normalised copy would double the memory of a long clip, and to fault its pages in takes longer than to choose.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        norms = [block.float().norm(dim=1) for block in split_blocks(rows)]
        self.norm = torch.cat(norms)  # (n,)
        self.scale = self.norm.clamp(min=SMALLEST).reciprocal_()

    def length(self) -> Tensor:
        """(n,): of the unit vectors: 1, or 0 for a row of zeros."""
        return self.norm * self.scale

    def unit(self, index: Tensor) -> Tensor:
        """(c, d): the unit vectors at `index` (c,)."""
        return self.rows.index_select(0, index).float() * self.scale.index_select(0, index)[:, None]

    def to(self, vectors: Tensor) -> Tensor:
        """(n, c): every row's cosine to each of `vectors` (c, d), unit vectors in float32."""
        if self.rows.dtype == torch.float32:
            products = self.rows @ vectors.T
        else:
            products = torch.cat([block.float() @ vectors.T for block in split_blocks(self.rows)])
        return products.mul_(self.scale[:, None])


def split_blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """The rows of (n, d), a few at a time."""
    blocks: tuple[Tensor, ...] = rows.split(max(1, BLOCK_BYTES // (4 * max(1, rows.shape[1]))))
    return blocks
