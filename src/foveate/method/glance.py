"""Glance: a first look at a few tokens shows where the model itself looks for the answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import FirstLook
from foveate.method.checks import check_between, check_positive
from foveate.method.foveate import Foveate
from foveate.method.grid import Grid
from foveate.method.scoring import scale_min_max
from foveate.method.selection import select_farthest
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Glance(Foveate):
    """A core where the language model's own attention points, and a complement that preserves the rest of the image.

    1. The image is averaged to `share` of its tokens: each is the mean of those nearest to an evenly spread one.
    2. The means go with the prompt through the first layers of the language model, up to the attention of the layer at
       `depth`. a_i is the attention of the prompt's last token to the mean that token i is a part of, averaged over
       the heads.
    3. It is spread over the image: `r_j = max_i a_i exp(-|p_i - p_j|^2 / (2 sigma^2))`, sigma = `spread` grid steps.
    4. `core` of the budget is selected from all tokens by Foveate's rule, with `mm(r) + words mm(c)` as the relevance,
       where c is `scoring.score_peaked_tokens` and mm the min-max over the image (0 for a flat map).
    5. The rest of the budget goes to the tokens farthest from those selected, without the question.

    A look at a selection misses what lies between its tokens; every token is part of a mean.

    Args:
        focus: The influence of the relevance on the core, in [0, 10].
        place: As in Foveate.
        reach: As in Foveate.
        share: The tokens of the first look, as a share of the image's, in (0, 1].
        depth: The share of the layers that run before the attention is read, in (0, 1].
        spread: How far the attention to a token reaches, in steps of the grid, above 0.
        words: The weight of the question's words beside the attention, in [0, 10].
        core: The share of the budget that follows the relevance, in [0, 1]; it is one token at least.

    Source:
        This project.
    """

    focus: float = 4.0
    share: float = 0.2
    depth: float = 0.4
    spread: float = 1.6
    words: float = 1.0
    core: float = 0.7

    name: ClassVar[str] = "glance"
    paper: ClassVar[str] = "this project"
    summary: ClassVar[str] = "a core where the model looks in a first look at a few averages, then the farthest tokens"
    needs: ClassVar[frozenset[str]] = frozenset({"attention"})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("share", "depth", "core"):
            check_between(name, getattr(self, name), 0, 1)
        check_between("words", self.words, 0, 10)
        for name in ("share", "depth", "spread"):
            check_positive(name, getattr(self, name))

    @property
    def first_look(self) -> FirstLook:
        """The look of steps 1 to 3."""
        return FirstLook(Grid(), self.share, self.depth, self.spread, pooled=True)

    def _select_many(self, images: Sequence[VisualTokens], ks: Sequence[int]) -> list[Tensor]:
        none = images[0].embeds.new_empty(0).long()
        return self._select_all(images, ks, none)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        return self._select_all([tokens], [k], selected)[0]

    def _select_all(self, images: Sequence[VisualTokens], ks: Sequence[int], selected: Tensor) -> list[Tensor]:
        """The core and the complement of each image; on a GPU a launch for each of the two."""
        counts = [max(1, math.floor(self.core * k + 0.5)) for k in ks]
        problems = [self.make_problem(*image, selected) for image in zip(images, counts, strict=True)]
        cores = select_farthest(problems)
        left = [n for n, k in enumerate(ks) if k > counts[n]]
        rest = [
            self.blind.make_problem(images[n], ks[n] - counts[n], torch.cat([selected, cores[n]]).sort().values)
            for n in left
        ]
        kept = list(cores)
        for n, more in zip(left, select_farthest(rest), strict=True):
            kept[n] = torch.cat([cores[n], more]).sort().values
        return kept

    def _score(self, tokens: VisualTokens) -> Tensor:
        attention = tokens.extra("attention").detach().float()
        relative = (attention / attention.amax()).nan_to_num(0.0)  # of a long prompt all weights are small
        return scale_min_max(relative) + self.words * scale_min_max(super()._score(tokens))
