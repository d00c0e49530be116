"""VisionZip: the tokens with the most [CLS] attention, and a few into which all others are merged."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.budget import to_fraction
from foveate.method.checks import check_share
from foveate.method.scoring import to_salience
from foveate.method.selection import TIE, select_top_k
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class VisionZip(Method):
    """Dominant tokens by [CLS] attention, and contextual tokens into which dropped ones are merged; k counts both.

    The contextual tokens are at an even stride, rounded down, among the tokens that are not dominant. Each dropped
    token is merged into the contextual one with the most similar attention key (cosine, all heads concatenated). A
    contextual token becomes the mean of its own value and of the mean of the tokens merged into it. The values are
    those after the projector; the paper merges before it.

    Args:
        dominant: The share of dominant tokens, in [0, 1], rounded to the nearest token. The paper's is 54 of 64.

    Source:
        arXiv 2412.04467.
    """

    dominant: float = 54 / 64

    name: ClassVar[str] = "visionzip"
    paper: ClassVar[str] = "arXiv 2412.04467"
    summary: ClassVar[str] = "the tokens with the most [CLS] attention, the rest merged into a few"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"cls_attention", "keys"})

    def __post_init__(self) -> None:
        check_share("dominant", self.dominant)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        dominant = self._select_dominant(tokens, k, selected)
        contextual = k - len(dominant)
        rest = torch.ones(len(tokens.embeds), dtype=torch.bool, device=selected.device)
        rest[torch.cat([selected, dominant])] = False
        places = rest.nonzero().squeeze(1)
        targets = places[:: max(1, len(places) // max(1, contextual))][:contextual]
        return torch.cat([dominant, targets]).sort().values

    def _merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        n, k = len(tokens.embeds), len(kept)
        weights = torch.zeros(k, n, device=kept.device)
        weights[torch.arange(k, device=kept.device), kept] = 1.0
        is_target = torch.isin(kept, self._select_dominant(tokens, k, kept[:0]), invert=True)
        dropped = torch.ones(n, dtype=torch.bool, device=kept.device)
        dropped[kept] = False
        rows, sources = is_target.nonzero().squeeze(1), dropped.nonzero().squeeze(1)
        if not len(rows) or not len(sources):
            return weights
        unit = unit_rows(tokens.extra("keys"))
        similarity = unit[sources] @ unit[kept[rows]].T  # (dropped, targets)
        goes_to = (similarity >= similarity.amax(1, keepdim=True) - TIE).int().argmax(1)
        merged = torch.zeros(len(rows), n, device=kept.device)
        merged[goes_to, sources] = 1.0
        count = merged.sum(1, keepdim=True)
        weights[rows] = torch.where(count > 0, (weights[rows] + merged / count.clamp(min=1)) / 2, weights[rows])
        return weights

    def _select_dominant(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        size = math.floor(to_fraction(self.dominant) * k + Fraction(1, 2))
        return select_top_k(to_salience(tokens.extra("cls_attention")), size, selected)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return to_salience(tokens.extra("cls_attention")) if self.dominant else None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        return torch.isin(kept, self._select_dominant(tokens, len(kept), kept[:0]))
