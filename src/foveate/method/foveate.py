"""Ours: farthest points in appearance and a little in place, weighted by the words that point at something."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.checks import is_number
from foveate.method.points import FarthestPoints
from foveate.method.scoring import scale_min_max, score_peaked_tokens
from foveate.method.selection import FarthestProblem
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Foveate(FarthestPoints):
    """Weighted k-centre: from the token that the question's words point at most on, greedy by `w_j min_{i in S} d_ij`.

    `d_ij = 1 - cos(v_i, v_j) + place (1 - exp(-|p_i - p_j|^2 / (2 sigma^2)))`: what looks different comes first, and of
    what looks alike, the second of two equal objects before a neighbour of the first. p are places in the grid and
    `sigma = reach (n / k)^(1 / a)` is `reach` times the stride of k tokens spread evenly over the grid's a axes (those
    of more than one step); where there is no grid, d is the appearance alone.
    `w_j = exp(focus mm(r_j))`, where r is the mean of the maps `cos(v_j, e_t)` of the question's words, each weighted
    by how peaked it is (`relevance.peaked_words`): words that point at nothing drop out by themselves. mm is the
    min-max over the image, 0 for a flat map.

    Pure diversity is blind to the question and to the second of two equal objects, relevance alone forgets the rest of
    the picture. `focus` in [0, 10], `place` in [0, 2], `reach` > 0; the defaults were chosen on the development split
    of the two bundled models and hold for every budget. focus = place = 0 is DivPrune with another start.
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
        for field, value, high in (("focus", self.focus, 10), ("place", self.place, 2)):
            if not is_number(value) or not 0 <= value <= high:
                raise InputError(f"{field}={value!r} is out of range: use a float from 0 to {high}, such as 0.5.")
        if not is_number(self.reach) or not 0 < self.reach < float("inf"):
            raise InputError(f"reach={self.reach!r} is no distance: use a float above 0, such as 2.")

    def choice(self, tokens: VisualTokens, k: int, selected: Tensor) -> FarthestProblem:
        """By looks and places, weighted by the question."""
        weight = (self.focus * scale_min_max(self._words(tokens))).exp()
        places = None if tokens.grid is None else self._places(tokens.grid, k + selected.numel()).to(selected.device)
        return FarthestProblem(tokens.embeds, k, selected, weight, places, self.place)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return self._words(tokens) if self.focus else None

    def _words(self, tokens: VisualTokens) -> Tensor:
        return score_peaked_tokens(tokens.embeds, tokens.question)

    def _places(self, grid: tuple[int, int, int], kept: int) -> Tensor:
        """The tokens' places (n, 3) in units of sigma."""
        axes = sum(size > 1 for size in grid)
        sigma = self.reach * (math.prod(grid) / kept) ** (1 / max(axes, 1))
        return torch.cartesian_prod(*(torch.arange(size) / sigma for size in grid))
