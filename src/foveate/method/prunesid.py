"""PruneSID: a group for every principal component of the image, and no near-duplicates within a group."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.method.base import Method
from foveate.method.checks import check_int, check_not_negative
from foveate.method.components import find_components, widen
from foveate.method.selection import TIE
from foveate.method.selection.loop import rank
from foveate.method.shares import apportion
from foveate.method.tokens import VisualTokens, unit_rows

CAP = 64  # a group's largest share grows with every 64 kept tokens


@dataclass(frozen=True)
class PruneSID(Method):
    """Tokens are grouped by the principal component that they contribute most to; a group keeps those that contribute
    most and are not near-duplicates.

    V (n, K) are the right singular vectors of `(sigmoid(x) - mean_i sigmoid(x_i))'`, with the K = floor(k / members)
    largest singular values. x are the tokens in the language model's space, divided by the root of their mean square,
    since a common factor changes nothing in any method here. Token i is in the group `g = argmax_j |V_ij|` and has the
    score |V_ig|. In each group, from the highest score to the lowest, a token is suppressed if its cosine to an
    earlier one that is not suppressed is above `tau = threshold (k / n) rho`, where rho is the mean cosine of all pairs
    of tokens. With the default, tau is the paper's `k / 32 rho` for 576 tokens. A copy is suppressed even where tau is
    above 1.

    Each group keeps one token and a share of the rest of k in proportion to its tokens that are not suppressed, at most
    `largest ceil(k / 64)` if that is enough in all. Suppressed tokens come after all others, in the same proportion.
    Tokens that are selected already count in k here, suppress others, and are one of their group. The matrix of all
    cosines exists once: 256 MiB for n = 8192.

    In the paper, the information in an image also decides how many tokens it keeps; here `keep` decides.

    Args:
        members: The kept tokens for which there is a group, 1 or more.
        threshold: The factor of the threshold of near-duplicates, 0 or more.
        largest: The most that a group keeps of each 64 tokens, 1 or more.

    Source:
        arXiv 2603.09480; the shares of the groups are those of the authors' implementation. For LLaVA it takes the
        tokens before the projector and their [CLS] attention as the score; for Qwen2-VL the tokens and scores that are
        used here, for which no [CLS] is needed. It centres each token over its channels; here, as in the paper, each
        channel is centred over the tokens.
    """

    members: int = 4
    threshold: float = 18.0
    largest: int = 5

    name: ClassVar[str] = "prunesid"
    paper: ClassVar[str] = "arXiv 2603.09480"
    summary: ClassVar[str] = "a group for every principal component, without near-duplicates within it"
    prompt_aware: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_int("members", self.members, 1)
        check_not_negative("threshold", self.threshold)
        check_int("largest", self.largest, 1)

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        total = k + len(selected)
        groups, scores = _group(tokens.embeds, max(1, total // self.members))
        near = _find_near(tokens.embeds, groups, self.threshold * total / len(groups))
        kept = selected.tolist()
        order = rank(scores.index_fill(0, selected, -torch.inf), TIE).tolist()[: len(groups) - len(kept)]
        fresh, spare = _suppress(near.cpu().numpy(), kept, order)
        parts = groups.tolist()
        quotas = self._split(parts, fresh, spare, kept, k)
        picked = []
        for i in fresh + spare:
            if quotas[parts[i]]:
                quotas[parts[i]] -= 1
                picked.append(i)
        return torch.tensor(sorted(picked), dtype=torch.long, device=selected.device)

    def _split(self, groups: list[int], fresh: list[int], spare: list[int], kept: list[int], k: int) -> list[int]:
        """Split k between the groups, of which token i is in `groups[i]`; a quota above the fresh ones takes spares."""
        size = max(groups) + 1
        counts = [Counter(groups[i] for i in some) for some in (fresh, spare, kept)]
        alive, left, taken = ([count[g] for g in range(size)] for count in counts)
        weights = torch.tensor(alive, dtype=torch.float64, device="cpu")
        if len(fresh) < k:
            rest = apportion(weights, left, k - len(fresh))
            return [a + b for a, b in zip(alive, rest, strict=True)]
        cap = self.largest * math.ceil((k + len(kept)) / CAP)
        while sum(min(count, cap) for count in alive) < k:
            cap += 1
        first = [int(count > 0 and not has) for count, has in zip(alive, taken, strict=True)]
        first = first if sum(first) <= k else [0] * size
        room = [min(count, cap) - one for count, one in zip(alive, first, strict=True)]
        return [a + b for a, b in zip(first, apportion(weights, room, k - sum(first)), strict=True)]


def _group(embeds: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the group (n,) of each token and its score (n,), on the scale of an entry of a unit vector."""
    rows = widen(embeds)
    rows = rows / rows.square().mean().sqrt().clamp(min=torch.finfo(rows.dtype).tiny)
    rows = torch.sigmoid(rows)
    parts, sizes = find_components(rows - rows.mean(0), count)
    # Components beyond the rank, or all of them on a blank page, are rounding.
    parts = parts.abs() * (sizes > TIE * math.sqrt(rows.numel()))
    scores = parts.amax(1)
    return (parts >= scores[:, None] - TIE).int().argmax(1), scores.float()


def _find_near(embeds: Tensor, groups: Tensor, factor: float) -> Tensor:
    """Find which tokens (n, n) of a group are near-duplicates: cosines above `factor` times the mean one."""
    unit = unit_rows(embeds)
    n = len(unit)
    pairs = widen(unit).sum(0).square().sum() - widen(unit).square().sum()
    border = (factor * pairs / max(1, n * (n - 1)) + TIE).clamp(max=1 - TIE)
    return (unit @ unit.T > border) & (groups[:, None] == groups)


def _suppress(near: NDArray[np.bool_], kept: list[int], order: list[int]) -> tuple[list[int], list[int]]:
    """Split `order` into tokens that are near to none of `kept` nor of the earlier ones, and all others."""
    suppressed: NDArray[np.bool_] = np.logical_or.reduce(near[kept], axis=0)
    fresh = []
    for i in order:
        if not suppressed[i]:
            fresh.append(i)
            suppressed |= near[i]
    chosen = set(fresh)
    return fresh, [i for i in order if i not in chosen]
