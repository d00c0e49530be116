"""Coverage: tokens that stand well for what no chosen one stands for yet."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

COVER_TIE = 1e-5  # gains this close, as a share of the column, are equal: softmax at tau 0.02 magnifies by 50
BLOCK = 256  # rows that are made at a time
KEPT_BYTES = 64 << 20  # a matrix up to this size is made once, and kept


class Weights(Protocol):
    """A matrix W (rows, n) >= 0 that is made in parts. `height` is its number of rows."""

    height: int

    def rows(self, index: Tensor) -> Tensor:
        """(c, n): the rows at `index` (c,), ascending, in float32."""

    def column(self, index: Tensor) -> Tensor:
        """(rows,): the column at `index` (1,)."""


class Coverage:
    """Value `worth_j gain_j`, `gain_j = sum_r max(0, W_rj - best_r)`, best_r the most that a chosen column has there.

    A token that is chosen lifts best_r in a few rows alone, fewer and fewer: what the others lose by it is in these
    rows. On an accelerator, where finding them would be read back, all rows are gone through.
    """

    def __init__(self, weights: Weights, worth: Tensor) -> None:
        self.weights, self.worth = weights, worth
        every = torch.arange(weights.height, device=worth.device)
        self.on_host = worth.device.type == "cpu"
        self.kept = None
        if not self.on_host or 4 * weights.height * len(worth) <= KEPT_BYTES:
            self.kept = torch.cat([weights.rows(some) for some in every.split(BLOCK)])
        self.best = worth.new_zeros(weights.height)
        # In float64 on the host, since it is counted down; some accelerators have none.
        self.gain = torch.zeros_like(worth, dtype=torch.float64 if self.on_host else torch.float32)
        for some in every.split(BLOCK):
            self.gain += self._rows(some).sum(0)
        self.least = COVER_TIE * self.gain

    def value(self) -> tuple[Tensor, Tensor]:
        """(n,), (n,)."""
        return self.gain * (self.gain > self.least) * self.worth, self.least * self.worth

    def take(self, index: Tensor) -> None:
        """Cover what the tokens at `index` (m,) cover."""
        for pick in index[:, None]:
            self._cover(self.weights.column(pick) if self.kept is None else self.kept.index_select(1, pick).squeeze(1))

    def _cover(self, column: Tensor) -> None:
        before, self.best = self.best, torch.maximum(self.best, column)
        if not self.on_host and self.kept is not None:
            self.gain = (self.kept - self.best[:, None]).clamp_(min=0).sum(0)
            return
        for some in (self.best > before).nonzero().squeeze(1).split(BLOCK):
            low, high = before[some, None], self.best[some, None]
            self.gain -= (torch.clamp(self._rows(some), low, high) - low).sum(0)

    def _rows(self, index: Tensor) -> Tensor:
        return self.weights.rows(index) if self.kept is None else self.kept.index_select(0, index)
