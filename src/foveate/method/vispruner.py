"""VisPruner: the tokens with the most [CLS] attention, and the rest without near-duplicates."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.budget import to_fraction
from foveate.method.checks import check_int, check_share
from foveate.method.scoring import to_salience
from foveate.method.selection import select_top_k
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class VisPruner(Method):
    """`floor(important k)` tokens by [CLS] attention; near-duplicates of the rest are dropped until k tokens are left.

    In each round the tokens that are left are assigned, in their order, to two sides in turn. The tokens of the first
    side that are most similar to one of the second, by the cosine before the projector, are dropped. Neighbours meet in
    this way, so the selection depends on the order of the tokens. The matrix of the cosines of the rest is computed
    once, because any two tokens may meet: 256 MiB for n = 8192.

    Args:
        important: The share selected by attention, in [0, 1].
        step: How many tokens a round drops at most, 1 or more.

    Source:
        arXiv 2412.01818.
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
        check_share("important", self.important)
        check_int("step", self.step, 1)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        important = self._select_important(tokens, k, selected)
        left = torch.ones(len(tokens.embeds), dtype=torch.bool, device=selected.device)
        left[torch.cat([selected, important])] = False
        rest = left.nonzero().squeeze(1)
        diverse = rest[_thin(unit_rows(tokens.extra("encoder")[rest]), k - len(important), self.step)]
        return torch.cat([important, diverse]).sort().values

    def _select_important(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        scores = to_salience(tokens.extra("cls_attention"))
        return select_top_k(scores, math.floor(to_fraction(self.important) * k), selected)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return to_salience(tokens.extra("cls_attention")) if self.important else None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        return torch.isin(kept, self._select_important(tokens, len(kept), kept[:0]))


def _thin(unit: Tensor, size: int, step: int) -> Tensor:
    """Keep `size` of the rows of `unit` (n, d), as ascending indices."""
    left = torch.arange(unit.shape[0], device=unit.device)
    if not size:
        return left[:0]
    none, similarity = left[:0], unit @ unit.T
    while len(left) > size:
        first, second = left[::2], left[1::2]
        nearest = similarity.index_select(0, first).index_select(1, second).amax(1)
        drop = min(step, len(left) - size, len(second))  # the first side has at least as many
        stay = select_top_k(-nearest, len(first) - drop, none)
        left = torch.cat([first[stay], second]).sort().values
    return left
