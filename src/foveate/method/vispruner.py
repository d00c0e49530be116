"""VisPruner (arXiv 2412.01818): the tokens that [CLS] attends to, and what is left of the rest without duplicates."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.budget import share_of
from foveate.method.checks import is_int, is_number
from foveate.method.scoring import to_salience
from foveate.method.selection import select_top_k
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class VisPruner(Method):
    """`floor(important k)` tokens by [CLS] attention; the others are the rest, thinned out.

    Thinning goes in rounds. The tokens that are left, in their order, are dealt out to two sides in turn; those of the
    first side that are most like one of the other side, by the cosine of the vision tower's tokens before the
    projector, are dropped, up to `step` a round, until as many are left as there are places. Dealing in turn makes
    neighbours meet, so the choice depends on where a token stands. `important` lies in [0, 1], `step` is 1 or more.
    The matrix of the cosines of what attention leaves is formed once, since any two may meet: 256 MiB for n = 8192.
    """

    important: float = 0.5
    step: int = 8

    name: ClassVar[str] = "vispruner"
    paper: ClassVar[str] = "arXiv 2412.01818"
    summary: ClassVar[str] = "half by [CLS] attention, half by dropping near-duplicates of the rest"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"encoder", "cls_attention"})

    def __post_init__(self) -> None:
        if not is_number(self.important) or not 0 <= self.important <= 1:
            raise InputError(f"important={self.important!r} is not a share: use a float in [0, 1], such as 0.5.")
        if not is_int(self.step) or self.step < 1:
            raise InputError(f"step={self.step!r} is no number of tokens: use an int of 1 or more, such as 8.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        scores = to_salience(tokens.extra("cls_attention"))
        important = self._important(scores, k, selected)
        left = torch.ones_like(scores, dtype=torch.bool)
        left[torch.cat([selected, important])] = False
        rest = left.nonzero().squeeze(1)
        diverse = rest[_thin(unit_rows(tokens.extra("encoder")[rest]), k - len(important), self.step)]
        return torch.cat([important, diverse]).sort().values

    def _important(self, scores: Tensor, k: int, selected: Tensor) -> Tensor:
        return select_top_k(scores, math.floor(share_of(self.important, k)), selected)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return to_salience(tokens.extra("cls_attention")) if self.important else None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        return torch.isin(kept, self._important(to_salience(tokens.extra("cls_attention")), len(kept), kept[:0]))


def _thin(unit: Tensor, size: int, step: int) -> Tensor:
    """`size` of the rows of `unit` (n, d), as ascending indices."""
    left = torch.arange(unit.shape[0], device=unit.device)
    if not size:
        return left[:0]
    none, alike = left[:0], unit @ unit.T
    while len(left) > size:
        first, second = left[::2], left[1::2]
        nearest = alike.index_select(0, first).index_select(1, second).amax(1)
        drop = min(step, len(left) - size, len(second))  # a side is half of them: no round drops more than it has
        stay = select_top_k(-nearest, len(first) - drop, none)
        left = torch.cat([first[stay], second]).sort().values
    return left
