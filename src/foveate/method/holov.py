"""HoloV: a share of the budget for every part of the image, used by [CLS] attention within it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_int
from foveate.method.scoring import to_salience
from foveate.method.selection import TIE, select_top_k
from foveate.method.shares import apportion
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class HoloV(Method):
    """The token sequence is cut into crops of equal length. A crop gets a share of k and keeps its tokens with the
    highest [CLS] attention a.

    The share of crop c is in proportion to `mean_c a / mean a + var_c / mean var`. `var_c` is the variance of the
    cosines between the crop's tokens before the projector, averaged over its tokens; if the mean variance is nearly
    zero, the second term is 1. Shares are rounded by the largest remainder. A crop without enough tokens keeps all, and
    the rest of its share goes to the others in the same proportion.

    Args:
        crops: The number of crops, 1 or more; with fewer tokens, every token is a crop. Some crops may be one token
            longer.

    Source:
        arXiv 2510.02912.
    """

    crops: int = 16

    name: ClassVar[str] = "holov"
    paper: ClassVar[str] = "arXiv 2510.02912"
    summary: ClassVar[str] = "a share for every part of the image, spent by [CLS] attention"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"encoder", "cls_attention"})

    def __post_init__(self) -> None:
        check_int("crops", self.crops, 1)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        scores, unit = self._relevance_map(tokens), unit_rows(tokens.extra("encoder"))
        crops = torch.arange(len(scores), device=scores.device).tensor_split(min(self.crops, len(scores)))
        variances = torch.stack([_compute_variance(unit[crop]) for crop in crops])
        variances = torch.where(variances.mean() > TIE, variances / variances.mean(), 1.0)
        weights = torch.stack([scores[crop].mean() for crop in crops]) + variances
        taken = torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, selected, True)
        room = torch.stack([(~taken[crop]).sum() for crop in crops])
        quotas = apportion(weights.cpu(), room.tolist(), k)
        free, none = scores.masked_fill(taken, -torch.inf), selected[:0]  # a quota has no room for taken tokens
        return torch.cat([crop[select_top_k(free[crop], q, none)] for crop, q in zip(crops, quotas, strict=True)])

    def _relevance_map(self, tokens: VisualTokens) -> Tensor:
        return to_salience(tokens.extra("cls_attention"))


def _compute_variance(unit: Tensor) -> Tensor:
    """Average, over the m tokens, the variance of a token's cosines to the others; 0 for one or two tokens."""
    m = unit.shape[0]
    if m < 2:
        return unit.new_zeros(())
    other = ~torch.eye(m, dtype=torch.bool, device=unit.device)
    return (unit @ unit.T)[other].view(m, m - 1).var(dim=1, correction=0).mean()
