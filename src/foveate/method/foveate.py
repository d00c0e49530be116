"""Foveate, the default: farthest points in appearance and position, weighted by what the question names."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.checks import check_between, check_positive
from foveate.method.points import FarthestPoints
from foveate.method.scoring import scale_min_max, score_peaked_tokens
from foveate.method.selection import FarthestProblem
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Foveate(FarthestPoints):
    """Weighted k-centre: greedy by `w_j min_{i in S} d_ij`, starting from the largest weight.

    `d_ij = 1 - cos(v_i, v_j) + place (1 - exp(-|p_i - p_j|^2 / (2 sigma^2)))`: first what looks different; among what
    looks alike, the second of two equal objects before a neighbour of the first. p are positions in the grid, and
    `sigma = reach (n / k)^(1 / a)` is `reach` times the stride of k tokens spread evenly over the a axes of the grid
    that are longer than 1. Without a grid or a raster, d is the appearance alone.
    `w_j = exp(focus mm(r_j))`, where r is `scoring.score_peaked_tokens` and mm the min-max over the image (0 for a flat
    map). Question tokens that name nothing in the image have almost no influence.

    Diversity alone ignores the question and the second of two equal objects; relevance alone loses the rest of the
    image. focus = place = 0 is DivPrune with another start. The defaults were chosen on the development split of the
    two bundled models, for all budgets.

    Args:
        focus: The influence of the question, in [0, 10].
        place: The influence of the position, in [0, 2].
        reach: The distance that counts as far, in strides, above 0.

    Source:
        This project.
    """

    focus: float = 1.0
    place: float = 0.2
    reach: float = 2.0

    name: ClassVar[str] = "foveate"
    paper: ClassVar[str] = "this project"
    summary: ClassVar[str] = "tokens that differ from those kept in looks or place, weighted by the question's words"
    prompt_aware: ClassVar[bool] = True
    spatial: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_between("focus", self.focus, 0, 10)
        check_between("place", self.place, 0, 2)
        check_positive("reach", self.reach)
        if not self.focus:
            object.__setattr__(self, "prompt_aware", False)  # the class is frozen

    @property
    def blind(self) -> "Foveate":
        """The rule without the question."""
        return Foveate(focus=0.0, place=self.place, reach=self.reach)

    def make_problem(self, tokens: VisualTokens, k: int, selected: Tensor) -> FarthestProblem:
        """Distances in appearance and position, weighted by relevance."""
        weight = (self.focus * scale_min_max(self._score(tokens))).exp()
        places, grid = None, tokens.grid or tokens.raster
        if grid is not None:
            places = self._scale_places(grid, k + selected.numel()).to(selected.device)
            places = places if tokens.cells is None else places[tokens.cells]
        return FarthestProblem(tokens.embeds, k, selected, weight, places, self.place)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._score(tokens) if self.focus else None

    def _score(self, tokens: VisualTokens) -> Tensor:
        """(n,) the relevance."""
        return score_peaked_tokens(tokens.embeds, tokens.question)

    def _scale_places(self, grid: tuple[int, int, int], kept: int) -> Tensor:
        """Compute the positions (n, 3) in units of sigma."""
        axes = sum(size > 1 for size in grid)
        sigma = self.reach * (math.prod(grid) / kept) ** (1 / max(axes, 1))
        return torch.cartesian_prod(*(torch.arange(size, device="cpu") / sigma for size in grid))
