"""PruMerge+: outliers of the [CLS] attention, an even sample of the rest, and merging."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_int
from foveate.method.grid import Grid
from foveate.method.scoring import to_salience
from foveate.method.selection import TIE, select_top_k
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class PruMerge(Method):
    """Outliers of the [CLS] attention a, `a > Q3 + 1.5 (Q3 - Q1)`, then tokens at an even stride (the plus of the
    name), then dropped tokens merged into the kept ones.

    Kept token p becomes `y_p + sum_q a_q y_q`, divided by the sum of its weights. q are the dropped tokens whose
    attention keys, all heads concatenated, are nearest to that of p by cosine. y are the values after the projector;
    the paper merges before it. The quartiles are those of all tokens of the image.

    In the paper, the number of outliers and a proportion of even samples decide how many tokens are kept. Here k
    decides: outliers first, those with the highest attention if there are more than k. The stride of `Grid`, over the
    sequence of the other tokens, fills the rest.

    Args:
        neighbours: How many dropped tokens are merged into each kept one, 0 or more.

    Source:
        arXiv 2403.15388.
    """

    neighbours: int = 32

    name: ClassVar[str] = "prumerge"
    paper: ClassVar[str] = "arXiv 2403.15388"
    summary: ClassVar[str] = "outliers of the [CLS] attention, an even sample, the rest merged in"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"cls_attention", "keys"})

    def __post_init__(self) -> None:
        check_int("neighbours", self.neighbours, 0)

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
        similarity = (unit[kept] @ unit.T).index_fill_(1, kept, -torch.inf)
        nearest = similarity.sort(dim=1, descending=True, stable=True).indices[:, : min(self.neighbours, n - k)]
        weights = torch.zeros(k, n, device=kept.device).scatter_(1, nearest, attention[nearest])
        weights[torch.arange(k, device=kept.device), kept] = 1.0
        return weights / weights.sum(1, keepdim=True)
