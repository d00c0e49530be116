"""The rule of farthest points: distance in appearance, and a bonus for distance in position."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from foveate.method.selection.cosines import Cosines
from foveate.method.selection.loop import TIE, Array, find_first, rank

BLOCK = 256  # rows of the similarity matrix that exist at a time
PROBES = 64  # tokens compared with all others at a time, in the search for the most isolated one


class FarthestPoint:
    """Value `w_j min_{i in S} d_ij`, `d_ij = 1 - cos` plus a bonus for the distance of `places`; S is not empty.

    A token within TIE of a selected one is a duplicate: its value is 0, however large its weight.
    """

    def __init__(self, cosines: Cosines, weight: Tensor, places: Tensor | None, place: float) -> None:
        self.cosines, self.weight, self.places, self.place = cosines, weight, places, place
        self.gap = torch.full_like(weight, math.inf)  # (n,): distance to the nearest selected token

    def value(self) -> tuple[Tensor, Tensor]:
        """As `Rule.value`."""
        return self.gap * (self.gap > TIE) * self.weight, TIE * self.weight

    def candidates(self, index: Tensor) -> _FarthestCandidates:
        """As `BlockRule.candidates`."""
        return _FarthestCandidates(self, index, 1 - self.compare(self.cosines.unit(index), index, index))

    def take(self, index: Tensor) -> None:
        """As `Rule.take`, with one pass over all tokens per `BLOCK` of `index` (m,)."""
        for start in range(0, len(index), BLOCK):
            some = index[start : start + BLOCK]
            gap = 1 - self.compare(self.cosines.unit(some), some).amax(1)
            self.gap = torch.minimum(self.gap, gap)

    def compare(self, unit: Tensor, index: Tensor, of: Tensor | None = None) -> Tensor:
        """Compute `1 - d` between all tokens, or those at `of` (c,), and those at `index` (m,) with vectors `unit`."""
        cosines = self.cosines.compute(unit) if of is None else self.cosines.unit(of) @ unit.T
        if self.places is None:
            return cosines
        places = self.places if of is None else self.places.index_select(0, of)
        # No matrix product: the difference of two large squares would blur the distances in a large grid.
        others = self.places.index_select(0, index)
        apart = torch.cdist(places, others, compute_mode="donot_use_mm_for_euclid_dist")
        return cosines.sub_(apart.square_().mul_(-0.5).exp_().neg_().add_(1), alpha=self.place)


def find_most_isolated(cosines: Cosines) -> Tensor:
    """Find the token (1,) whose largest cosine to another is smallest; the first of those within TIE.

    A token's cosines to some tokens bound its largest one from below. On a CPU, only tokens whose bound is still the
    smallest are compared with all others, most promising first; the other pairs are never computed.
    """
    n, device = len(cosines.scale), cosines.scale.device
    nearest = cosines.scale.new_full((n,), -math.inf)  # a lower bound for unknown tokens
    unknown = torch.ones(n, dtype=torch.bool, device=device)
    some = torch.arange(0, n, max(1, n // PROBES), device=device)[:PROBES]
    for start in range(0, n, PROBES):
        if device.type != "cpu":
            some = torch.arange(start, min(start + PROBES, n), device=device)
        elif start:
            some = rank((-nearest).masked_fill(~unknown, -math.inf), TIE)[:PROBES]
            if nearest[unknown].amin() > nearest[~unknown].amin() + TIE:
                break
        pairs = cosines.compute(cosines.unit(some))  # (n, c)
        pairs[some, torch.arange(len(some), device=device)] = -math.inf
        nearest = torch.maximum(nearest, pairs.amax(1)).index_copy_(0, some, pairs.amax(0))
        unknown.index_fill_(0, some, False)
    nearest.masked_fill_(unknown, math.inf)
    return find_first(nearest <= nearest.amin() + TIE)


class _FarthestCandidates:
    def __init__(self, rule: FarthestPoint, index: Tensor, apart: Tensor) -> None:
        self.apart: Array = apart.numpy()  # (c, c)
        self.gap: Array = rule.gap[index].numpy()
        self.weight: Array = rule.weight[index].numpy()

    def value(self) -> tuple[Array, Array]:
        return self.gap * (self.gap > TIE) * self.weight, TIE * self.weight

    def take(self, place: int) -> None:
        self.gap = np.minimum(self.gap, self.apart[place])
