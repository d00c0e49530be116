"""PruMerge+ (arXiv 2403.15388): outliers of the [CLS] attention, an even sample of the rest, and merging."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.checks import is_int
from foveate.method.grid import Grid
from foveate.method.scoring import to_salience
from foveate.method.selection import TIE, select_top_k
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class PruMerge(Method):
    """Outliers of the [CLS] attention a, `a > Q3 + 1.5 (Q3 - Q1)`, then tokens at an even stride (the plus), then
    dropped tokens merged into them: `y_p + sum_q a_q y_q` over the `neighbours` dropped tokens q whose attention keys
    are nearest to that of p by cosine (all heads side by side), divided by its weights' sum.

    The paper keeps as many tokens as there are outliers, and a proportion of even samples. Here k is a parameter: the
    outliers come first, at most k of them and those of the highest attention; the even stride of `Grid` over the
    other tokens, in their order, fills what is left. The quartiles are those of all tokens of the image. The
    values are those after the projector, where the paper merges before it. `neighbours` >= 0; 0 merges nothing.
    """

    neighbours: int = 32

    name: ClassVar[str] = "prumerge"
    paper: ClassVar[str] = "arXiv 2403.15388"
    summary: ClassVar[str] = "outliers of the [CLS] attention, an even sample, the rest merged in"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"cls_attention", "keys"})

    def __post_init__(self) -> None:
        if not is_int(self.neighbours) or self.neighbours < 0:
            raise InputError(f"neighbours={self.neighbours!r} is no number of tokens: use an int of 0 or more.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        scores = self._relevance_map(tokens)
        low, high = scores.quantile(scores.new_tensor([0.25, 0.75]))
        is_outlier = (scores > high + 1.5 * (high - low) + TIE).index_fill_(0, selected, False)
        outliers = select_top_k(scores, min(int(is_outlier.sum()), k), selected)
        if len(outliers) == k:
            return outliers
        even = Grid().select(tokens, k - len(outliers), selected=torch.cat([selected, outliers]))
        return torch.cat([outliers, even]).sort().values

    def _relevance_map(self, tokens: VisualTokens) -> Tensor:
        return to_salience(tokens.extra("cls_attention"))

    def _merge_weights(self, tokens: VisualTokens, kept: Tensor) -> Tensor:
        attention, unit = tokens.extra("cls_attention").float(), unit_rows(tokens.extra("keys"))
        n, k = len(attention), len(kept)
        alike = (unit[kept] @ unit.T).index_fill_(1, kept, -torch.inf)
        nearest = alike.sort(dim=1, descending=True, stable=True).indices[:, : min(self.neighbours, n - k)]
        weights = torch.zeros(k, n, device=kept.device).scatter_(1, nearest, attention[nearest])
        weights[torch.arange(k, device=kept.device), kept] = 1.0
        return weights / weights.sum(1, keepdim=True)
