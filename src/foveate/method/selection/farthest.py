"""Farthest points: tokens far, by cosine and a little by place, from those chosen."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from foveate.method.selection.cosines import Cosines
from foveate.method.selection.loop import TIE, Array, find_first, rank

BLOCK = 256  # rows of the similarity matrix that exist at a time
PROBES = 64  # tokens whose pairs are made together, in search of the most isolated one


class FarthestPoint:
    """Value `w_j min_{i in S} d_ij`, `d_ij = 1 - cos` and a bonus for the distance of `places`. S is not empty.

    What is within TIE of a chosen one is a duplicate: worth nothing, however large its weight.
    """

    def __init__(self, cosines: Cosines, weight: Tensor, places: Tensor | None = None, place: float = 0.0) -> None:
        self.cosines, self.weight, self.places, self.place = cosines, weight, places, place
        self.gap = torch.full_like(weight, math.inf)  # (n,): to the nearest chosen token

    def value(self) -> tuple[Tensor, Tensor]:
        """(n,), (n,)."""
        return self.gap * (self.gap > TIE) * self.weight, TIE * self.weight

    def candidates(self, index: Tensor) -> _Candidates:
        """With the distances between them."""
        return _Candidates(self, index, 1 - self.likeness(self.cosines.unit(index), index, index))

    def take(self, index: Tensor) -> None:
        """One pass over all tokens for every `BLOCK` of `index` (m,)."""
        for start in range(0, len(index), BLOCK):
            some = index[start : start + BLOCK]
            gap = 1 - self.likeness(self.cosines.unit(some), some).amax(1)
            self.gap = torch.minimum(self.gap, gap)

    def likeness(self, unit: Tensor, index: Tensor, of: Tensor | None = None) -> Tensor:
        """(n, m), or (c, m) for the tokens at `of` alone: cosines to `unit` (m, d), less the bonus of place."""
        cosines = self.cosines.to(unit) if of is None else self.cosines.unit(of) @ unit.T
        if self.places is None:
            return cosines
        places = self.places if of is None else self.places.index_select(0, of)
        # No matrix product here: the difference of two large squares would blur the distances of a large grid.
        chosen = self.places.index_select(0, index)
        apart = torch.cdist(places, chosen, compute_mode="donot_use_mm_for_euclid_dist")
        return cosines.sub_(apart.square_().mul_(-0.5).exp_().neg_().add_(1), alpha=self.place)


def find_most_isolated(cosines: Cosines) -> Tensor:
    """The token (1,) whose largest cosine to another one is the smallest; the first in line of those within TIE.

    A token's cosines to some others bound its largest one from below. On a CPU only those that may still be the most
    isolated are looked at in full, most promising first; what is left of the pairs is never made.
    """
    n, device = len(cosines.scale), cosines.scale.device
    nearest = cosines.scale.new_full((n,), -math.inf)  # a bound from below, until it is known
    unknown = torch.ones(n, dtype=torch.bool, device=device)
    some = torch.arange(0, n, max(1, n // PROBES), device=device)[:PROBES]
    for start in range(0, n, PROBES):
        if device.type != "cpu":
            some = torch.arange(start, min(start + PROBES, n), device=device)
        elif start:
            some = rank((-nearest).masked_fill(~unknown, -math.inf), TIE)[: min(PROBES, n - start)]
            if nearest[unknown].amin() > nearest[~unknown].amin() + TIE:
                break
        pairs = cosines.to(cosines.unit(some))  # (n, c)
        pairs[some, torch.arange(len(some), device=device)] = -math.inf
        nearest = torch.maximum(nearest, pairs.amax(1)).index_copy_(0, some, pairs.amax(0))
        unknown.index_fill_(0, some, False)
    nearest.masked_fill_(unknown, math.inf)
    return find_first(nearest <= nearest.amin() + TIE)


class _Candidates:
    def __init__(self, rule: FarthestPoint, index: Tensor, apart: Tensor) -> None:
        self.apart: Array = apart.numpy()  # (c, c)
        self.gap: Array = rule.gap[index].numpy()
        self.weight: Array = rule.weight[index].numpy()

    def value(self) -> tuple[Array, Array]:
        return self.gap * (self.gap > TIE) * self.weight, TIE * self.weight

    def take(self, place: int) -> None:
        self.gap = np.minimum(self.gap, self.apart[place])
