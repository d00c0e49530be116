"""The rule of greedy maximum coverage."""

from typing import Protocol

import torch
from torch import Tensor

COVER_TIE = 1e-5  # gains this close, as a share of the column, are a tie: softmax at tau 0.02 magnifies noise by 50
BLOCK = 256  # rows computed at a time
MATRIX_BYTES = 64 << 20  # a matrix up to this size is computed once and stored


class Weights(Protocol):
    """A matrix W (rows, n) >= 0 that is computed in parts. `height` is its number of rows."""

    height: int

    def rows(self, index: Tensor) -> Tensor:
        """Compute the rows (c, n) at `index` (c,), ascending, in float32."""

    def column(self, index: Tensor) -> Tensor:
        """Compute the column (rows,) at `index` (1,)."""


class Coverage:
    """Value `worth_j gain_j`, `gain_j = sum_r max(0, W_rj - best_r)`, where best_r is the largest selected W_ri.

    A selected token raises best_r in fewer and fewer rows. Only in these rows do the other tokens lose gain, so only
    these are computed again. On an accelerator all rows are, because finding those would be a host sync.
    """

    def __init__(self, weights: Weights, worth: Tensor) -> None:
        self.weights, self.worth = weights, worth
        every = torch.arange(weights.height, device=worth.device)
        self.on_host = worth.device.type == "cpu"
        self.matrix = None
        if not self.on_host or 4 * weights.height * len(worth) <= MATRIX_BYTES:
            self.matrix = torch.cat([weights.rows(some) for some in every.split(BLOCK)])
        self.best = worth.new_zeros(weights.height)
        # float64 on the host because losses are subtracted from it; some accelerators do not have it.
        self.gain = torch.zeros_like(worth, dtype=torch.float64 if self.on_host else torch.float32)
        for some in every.split(BLOCK):
            self.gain += self._rows(some).sum(0)
        self.least = COVER_TIE * self.gain

    def value(self) -> tuple[Tensor, Tensor]:
        """As `Rule.value`."""
        return self.gain * (self.gain > self.least) * self.worth, self.least * self.worth

    def take(self, index: Tensor) -> None:
        """As `Rule.take`."""
        for pick in index[:, None]:
            matrix = self.matrix
            self._cover(self.weights.column(pick) if matrix is None else matrix.index_select(1, pick).squeeze(1))

    def _cover(self, column: Tensor) -> None:
        before, self.best = self.best, torch.maximum(self.best, column)
        if not self.on_host and self.matrix is not None:
            self.gain = (self.matrix - self.best[:, None]).clamp_(min=0).sum(0)
            return
        for some in (self.best > before).nonzero().squeeze(1).split(BLOCK):
            low, high = before[some, None], self.best[some, None]
            self.gain -= (torch.clamp(self._rows(some), low, high) - low).sum(0)

    def _rows(self, index: Tensor) -> Tensor:
        return self.weights.rows(index) if self.matrix is None else self.matrix.index_select(0, index)
