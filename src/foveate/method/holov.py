"""HoloV (arXiv 2510.02912): a share of the budget for every part of the picture, then [CLS] attention within it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.base import Method
from foveate.method.checks import is_int
from foveate.method.scoring import to_salience
from foveate.method.selection import TIE, select_top_k
from foveate.method.tokens import VisualTokens, unit_rows


@dataclass(frozen=True)
class HoloV(Method):
    """The tokens in their order are cut into `crops` runs of equal length (or one longer); crop c gets a share of k
    in proportion to `mean_c a / mean a + var_c / mean var`, and spends it on its highest [CLS] attention a.

    `var_c` is the variance of the cosines between the crop's tokens before the projector, averaged over its tokens.
    Where the crops are about equally varied, that term is 1. Shares are rounded by the largest remainder; no crop gets
    more than it has, and what it cannot take goes to the others in the same proportion. With fewer tokens than
    `crops` every token is a crop.
    """

    crops: int = 16

    name: ClassVar[str] = "holov"
    paper: ClassVar[str] = "arXiv 2510.02912"
    summary: ClassVar[str] = "a share for every part of the picture, spent by [CLS] attention"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"encoder", "cls_attention"})

    def __post_init__(self) -> None:
        if not is_int(self.crops) or self.crops < 1:
            raise InputError(f"crops={self.crops!r} is no number of crops: use an int of 1 or more, such as 16.")

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        scores, unit = self._relevance_map(tokens), unit_rows(tokens.extra("encoder"))
        parts = torch.arange(len(scores), device=scores.device).tensor_split(min(self.crops, len(scores)))
        varied = torch.stack([_variance(unit[part]) for part in parts])
        varied = torch.where(varied.mean() > TIE, varied / varied.mean(), 1.0)
        weights = torch.stack([scores[part].mean() for part in parts]) + varied
        taken = torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, selected, True)
        room = torch.stack([(~taken[part]).sum() for part in parts])
        quotas = apportion(weights.cpu(), room.tolist(), k)
        free = scores.masked_fill(taken, -torch.inf)  # a crop's quota leaves these out
        return torch.cat(
            [part[select_top_k(free[part], quota, selected[:0])] for part, quota in zip(parts, quotas, strict=True)]
        )

    def _relevance_map(self, tokens: VisualTokens) -> Tensor:
        return to_salience(tokens.extra("cls_attention"))


def _variance(unit: Tensor) -> Tensor:
    """Mean over the m tokens of the variance of a token's cosines to the others; 0 for one or two tokens."""
    m = unit.shape[0]
    if m < 2:
        return unit.new_zeros(())
    other = ~torch.eye(m, dtype=torch.bool, device=unit.device)
    return (unit @ unit.T)[other].view(m, m - 1).var(dim=1, correction=0).mean()


def apportion(weights: Tensor, room: list[int], k: int) -> list[int]:
    """k places in proportion to `weights` (c,) >= 0, at most `room[c]` each; sum(room) >= k."""
    quotas = torch.zeros(len(room), dtype=torch.long)
    caps, weights = torch.tensor(room), weights.double().clamp(min=TIE)
    while k:
        is_open = quotas < caps
        share = torch.where(is_open, k * weights / weights[is_open].sum(), 0.0)
        full = is_open & (share >= caps)
        if not bool(full.any()):
            break
        quotas = torch.where(full, caps, quotas)
        k -= int(caps[full].sum())
    if k:
        whole = share.floor().long()
        ends = (~is_open).nonzero().squeeze(1)
        quotas += whole
        quotas[select_top_k(share - whole, k - int(whole.sum()), ends)] += 1
    return [int(quota) for quota in quotas]
