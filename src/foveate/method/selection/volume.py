"""The rule of volumes: tokens with a large component outside of the span of the selected ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.method.selection.cosines import Cosines
from foveate.method.selection.loop import Array
from foveate.method.tokens import unit_rows

SPENT = 1e-5  # a unit vector with a smaller squared residual outside of the span adds nothing to a DPP
BLOCK = 256  # selected tokens projected out together

Worth = Callable[..., tuple[Any, Any]]  # (rest, *data), as tensors or as arrays -> values, and what ties with them


class Volume:
    """Value `worth(rest, *data)`, where `rest` (n,) is each unit vector's squared residual outside of the span.

    With a `ridge`, every vector also has a direction of its own, of that squared length. An orthonormal basis (m, d) of
    the selected tokens is equivalent to the Cholesky rows (m, n) of the papers, but does not lose digits where `rest`,
    by which the rows are divided, is small. `room` is how many tokens will be selected; `data` are tensors (n,).
    """

    def __init__(self, cosines: Cosines, room: int, worth: Worth, *data: Tensor, ridge: float = 0.0) -> None:
        self.cosines, self.worth, self.data, self.ridge = cosines, worth, data, ridge
        self.width = cosines.rows.shape[1]
        self.basis = cosines.scale.new_zeros(room, self.width + (room if ridge else 0))
        self.size = 0
        self.rest = cosines.length().square() + ridge

    def value(self) -> tuple[Tensor, Tensor]:
        """As `Rule.value`."""
        values: tuple[Tensor, Tensor] = self.worth(self.rest, *self.data)
        return values

    def candidates(self, index: Tensor) -> _VolumeCandidates:
        """As `BlockRule.candidates`, with the products of their residuals."""
        unit = self.cosines.unit(index)
        inside = unit @ self.basis[: self.size, : self.width].T
        return _VolumeCandidates(self, index, unit @ unit.T - inside @ inside.T)

    def take(self, index: Tensor) -> None:
        """As `Rule.take`: remove the new directions from `rest`, in one pass per `BLOCK` of `index` (m,)."""
        for start in range(0, len(index), BLOCK):
            some = index[start : start + BLOCK]
            fresh = self._orthogonalize(some)
            self.basis[self.size : self.size + len(some)] = fresh
            self.size += len(some)
            self.rest -= self.cosines.compute(fresh[:, : self.width]).square_().sum(1)
            self.rest.clamp_(min=self.ridge)

    def _orthogonalize(self, index: Tensor) -> Tensor:
        """Return new directions (m, width) by Gram-Schmidt, each projection done twice; zeros if nothing is left."""
        fresh = self.basis.new_zeros(len(index), self.basis.shape[1])
        fresh[:, : self.width] = self.cosines.unit(index)
        if self.ridge:
            fresh[:, self.width + self.size :].fill_diagonal_(self.ridge**0.5)
        known = self.basis[: self.size]
        for _ in range(2):
            fresh -= (fresh @ known.T) @ known
        for row in range(len(index)):
            vector, before = fresh[row], fresh[:row]
            for _ in range(2):
                vector = vector - before.T @ (before @ vector)
            left = vector.square().sum()
            fresh[row] = vector * torch.where(left > SPENT, left.rsqrt(), 0.0)
        # A vector that was short above has, relative to its length, larger errors along the known directions.
        return unit_rows(fresh - (fresh @ known.T) @ known)


class _VolumeCandidates:
    """The Cholesky rows of the candidates' own products."""

    def __init__(self, rule: Volume, index: Tensor, products: Tensor) -> None:
        self.products: Array = products.double().numpy()  # (c, c)
        self.rest: Array = rule.rest[index].double().numpy()
        self.data: list[Array] = [values[index].numpy() for values in rule.data]
        self.worth, self.ridge = rule.worth, rule.ridge
        self.rows = np.zeros((0, len(index)))

    def value(self) -> tuple[Array, Array]:
        values: tuple[Array, Array] = self.worth(self.rest, *self.data)
        return values

    def take(self, place: int) -> None:
        if self.rest[place] > SPENT:
            row = (self.products[place] - self.rows[:, place] @ self.rows) / np.sqrt(self.rest[place])
            self.rows = np.vstack([self.rows, row])
            self.rest = np.maximum(self.rest - row**2, self.ridge)
