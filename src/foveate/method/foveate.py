"""Ours: farthest points in appearance and place, weighted by the question. Zero-shot, nothing to set by hand."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.relevance import min_max, pooled
from foveate.selection import weighted_farthest_point
from foveate.tokens import VisualTokens, is_number


@dataclass(frozen=True)
class Foveate(Method):
    """Weighted k-centre: from the token nearest to the question on, greedy by `w_j min_{i in S} (1 - s_ij)`.

    `s_ij = max(0, cos(v_i, v_j)) exp(-|p_i - p_j|^2 / (2 sigma^2))`: two tokens stand for each other only if they look
    alike *and* lie near to each other, so that the second of two equal objects stays and plain ground is thinned
    evenly. p are places in the grid and `sigma = reach (n / k)^(1 / a)` is `reach` times the stride of k tokens spread
    evenly over the grid's a axes (those of more than one step); where there is no grid, s is the cosine alone.
    `w_j = exp(focus mm(cos(v_j, q)))`, q the mean question embedding, mm the min-max over the image, 0 for a flat map.

    Pure diversity forgets how many there are, relevance alone forgets the rest of the picture, a plain grid falls
    between objects: this rule contains all three. `reach` > 0, `focus` >= 0; the defaults were chosen on the
    development split of two bundled models and hold for every budget.
    """

    reach: float = 0.8
    focus: float = 1.0

    name: ClassVar[str] = "foveate"
    paper: ClassVar[str] = "this project"
    summary: ClassVar[str] = "tokens far from those kept in appearance or in place, weighted by the question"
    prompt_aware: ClassVar[bool] = True
    spatial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not is_number(self.reach) or not 0 < self.reach < float("inf"):
            raise InputError(f"reach={self.reach!r} is no distance: use a float above 0, such as 0.8.")
        if not is_number(self.focus) or not 0 <= self.focus <= 10:
            raise InputError(f"focus={self.focus!r} is out of range: use a float from 0 to 10, such as 1.")

    def _select(self, tokens: VisualTokens, k: int, given: Tensor) -> Tensor:
        weight = (self.focus * min_max(pooled(tokens.embeds, tokens.question))).exp()
        places = None if tokens.grid is None else self._places(tokens.grid, k + given.numel()).to(given.device)
        return weighted_farthest_point(tokens.embeds, weight, k, given, places=places)

    def _places(self, grid: tuple[int, int, int], kept: int) -> Tensor:
        """The tokens' places (n, 3) in units of sigma."""
        axes = sum(size > 1 for size in grid)
        sigma = self.reach * (math.prod(grid) / kept) ** (1 / max(axes, 1))
        return torch.cartesian_prod(*(torch.arange(size) / sigma for size in grid))
