"""VisionZip (arXiv 2412.04467): the tokens that [CLS] attends to, and a few that stand for all the rest."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.budget import share_of
from foveate.method.checks import is_number
from foveate.method.scoring import to_salience
from foveate.method.selection import TIE, select_top_k
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class VisionZip(Method):
    """Dominant tokens by [CLS] attention, contextual tokens that the dropped ones are merged into; both count in k.

    `dominant` in [0, 1] is the share of the first: 54 of 64 in the paper, the nearest whole number otherwise. The
    contextual targets stand at an even stride, the floor of the quotient, among the tokens that are not dominant. Every
    dropped token goes to the target with the most similar attention key (cosine, all heads side by side), and a target
    takes the mean of its own value and the mean of what went to it. The values are those after the projector, where
    the paper merges before it.
    """

    dominant: float = 54 / 64

    name: ClassVar[str] = "visionzip"
    paper: ClassVar[str] = "arXiv 2412.04467"
    summary: ClassVar[str] = "the tokens with the most [CLS] attention, the rest merged into a few"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"cls_attention", "keys"})

    def __post_init__(self) -> None:
        if not is_number(self.dominant) or not 0 <= self.dominant <= 1:
            raise InputError(f"dominant={self.dominant!r} is not a share: use a float in [0, 1], such as 54 / 64.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        dominant = self._dominant(tokens, k, selected)
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
        is_target = torch.isin(kept, self._dominant(tokens, k, kept[:0]), invert=True)
        dropped = torch.ones(n, dtype=torch.bool, device=kept.device)
        dropped[kept] = False
        rows, sources = is_target.nonzero().squeeze(1), dropped.nonzero().squeeze(1)
        if not len(rows) or not len(sources):
            return weights
        unit = unit_rows(tokens.extra("keys"))
        alike = unit[sources] @ unit[kept[rows]].T  # (dropped, targets)
        goes_to = (alike >= alike.amax(1, keepdim=True) - TIE).int().argmax(1)
        share = torch.zeros(len(rows), n, device=kept.device)
        share[goes_to, sources] = 1.0
        count = share.sum(1, keepdim=True)
        weights[rows] = torch.where(count > 0, (weights[rows] + share / count.clamp(min=1)) / 2, weights[rows])
        return weights

    def _dominant(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        size = math.floor(share_of(self.dominant, k) + Fraction(1, 2))
        return select_top_k(to_salience(tokens.extra("cls_attention")), size, selected)

    def _relevance_map(self, tokens: VisualTokens) -> Tensor | None:
        return to_salience(tokens.extra("cls_attention")) if self.dominant else None

    def _core_mask(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        return torch.isin(kept, self._dominant(tokens, len(kept), kept[:0]))
