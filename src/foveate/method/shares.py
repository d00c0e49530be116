"""Whole shares of a budget, in proportion to weights."""

import torch
from torch import Tensor

from foveate.method.selection import TIE, select_top_k


def apportion(weights: Tensor, room: list[int], k: int) -> list[int]:
    """Split k in proportion to `weights` (c,) >= 0, at most `room[c]` each, rounded by the largest remainder.

    What a part has no room for goes to the others in the same proportion. sum(room) >= k.
    """
    quotas = torch.zeros_like(weights, dtype=torch.long)
    caps, weights = torch.tensor(room, device=weights.device), weights.double().clamp(min=TIE)
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
        closed = (~is_open).nonzero().squeeze(1)
        quotas += whole
        quotas[select_top_k(share - whole, k - int(whole.sum()), closed)] += 1
    return [int(quota) for quota in quotas]
