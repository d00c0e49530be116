"""Selection rules: which k of n tokens, from scores or embeddings. Pure tensors.

What all of them promise. They return `k` new indices (k,), ascending, never one of `selected` (g,), distinct indices
that count as selected already. They are deterministic, and ties go to the lowest index; what differs by less than
float32 can tell is a tie, so that duplicate tokens do not fall to the noise of a matrix product and CPU and GPU agree.
Nothing is read back from an accelerator, so the loops hold no host sync. Beyond their inputs they need O(n) memory: no
matrix of n x n exists, and no copy of the embeddings, but for what `coverage` says.

Each raises `InputError` if `k` new tokens cannot be had beside `selected`. k = 0 is allowed and gives none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.method.selection import kernel
from foveate.method.selection.cosines import Cosines
from foveate.method.selection.cover import Coverage, Weights
from foveate.method.selection.farthest import FarthestPoint, find_most_isolated
from foveate.method.selection.loop import TIE, find_first, rank, select_greedily, select_in_steps
from foveate.method.selection.volume import SPENT, Volume

__all__ = [
    "TIE",
    "Cosines",
    "FarthestProblem",
    "Weights",
    "select_coverage",
    "select_dpp",
    "select_farthest",
    "select_log_volume",
    "select_top_k",
]


def select_top_k(scores: Tensor, k: int, selected: Tensor) -> Tensor:
    """The k highest `scores` (n,), on the scale of cosines. O(n log n)."""
    _free(scores, k, selected)
    return rank(scores.float().index_fill(0, selected, -math.inf), TIE)[:k].sort().values


@dataclass(frozen=True, eq=False)
class FarthestProblem:
    """A choice of farthest points: again and again the token with the largest `w_j min_{i in S} d_ij` (SCoRe).

    `d_ij = 1 - cos` of `embeds` (n, d); with `places` (n, c) it grows by `place (1 - exp(-|p_i - p_j|^2 / 2))`, so that
    what looks alike but lies elsewhere is not quite a duplicate. `weight` w (n,) >= 0 is of the order of 1. A token
    within TIE of a selected one is a duplicate, at distance 0 however large its weight. Without `selected` it starts
    from the largest weight, or without a weight (all ones) from the token whose nearest neighbour is farthest
    (DivPrune, arXiv 2503.02175).
    """

    embeds: Tensor
    k: int
    selected: Tensor
    weight: Tensor | None = None
    places: Tensor | None = None
    place: float = 0.0


def select_farthest(choices: Sequence[FarthestProblem]) -> list[Tensor]:
    """The tokens (k,) of each choice: of a picture, or of several on one device, which on a GPU are chosen at once.

    O(nk) similarities; DivPrune's start takes O(n^2) of them at worst, and far fewer in images with a few odd tokens.
    """
    started = [_start(choice) for choice in choices]
    rules, starts, free = [list(found) for found in zip(*started, strict=True)] if started else ([], [], [])
    counts = [choice.k - start.numel() for choice, start in zip(choices, starts, strict=True)]
    if rules and all(kernel.is_usable(rule) for rule in rules):
        rests = kernel.launch_many(rules, counts, free)
    else:
        rests = [select_greedily(*each) for each in zip(rules, counts, free, strict=True)]
    return [torch.cat([start, rest]).sort().values for start, rest in zip(starts, rests, strict=True)]


def _start(choice: FarthestProblem) -> tuple[FarthestPoint, Tensor, Tensor]:
    """The rule's state after its start, the start (1,) if it has to be chosen, and what is free (n,)."""
    free = _free(choice.embeds, choice.k, choice.selected)
    cosines = Cosines(choice.embeds)
    weight = torch.ones_like(cosines.scale) if choice.weight is None else choice.weight.float()
    start = choice.selected[:0]
    if choice.k and not choice.selected.numel():
        alone = choice.weight is None
        start = find_most_isolated(cosines) if alone else find_first(weight + TIE * weight >= weight.amax())
    rule = FarthestPoint(cosines, weight, choice.places, choice.place)
    rule.take(torch.cat([choice.selected, start]))
    return rule, start, free.index_fill_(0, start, False)


def select_dpp(embeds: Tensor, relevance: Tensor, k: int, selected: Tensor) -> Tensor:
    """Greedy MAP of the determinantal point process `L_ij = r_i S_ij r_j` (CDPruner, arXiv 2506.10967).

    `embeds` (n, d) give S, their cosines; `relevance` r (n,) >= 0. Each step takes the token with the largest
    `r_j^2 * rest_j`, where `rest_j` is what is left of the unit vector v_j outside of the span of the selected: the
    pivot of the Cholesky factorisation of L. `selected` conditions the process. O(nk) similarities, O(kd) memory.

    Past the rank of S (k > d, duplicates, blank pages) no token adds volume: once none has a `rest_j` above 1e-5 the
    remaining places go to the highest relevance, lowest index first.
    """
    free = _free(embeds, k, selected)
    weight = relevance.float().square()
    below = -(1 + TIE * weight.amax()) * torch.arange(1, len(embeds) + 1, device=weight.device)
    spare = torch.empty_like(weight).index_copy_(0, rank(relevance.float(), TIE), below)  # in order of relevance

    def worth(rest: Any, weight: Any, spare: Any) -> tuple[Any, Any]:
        alive = rest > SPENT
        return alive * weight * rest + ~alive * spare, TIE * weight

    rule = Volume(Cosines(embeds), k + selected.numel(), worth, weight, spare)
    rule.take(selected)
    return select_greedily(rule, k, free).sort().values


def select_log_volume(embeds: Tensor, bonus: Tensor, k: int, selected: Tensor, *, share: float, ridge: float) -> Tensor:
    """Greedy maximum of `(1 - share) sum_S bonus + share log det(V_S V_S' + ridge I)` (CoIn).

    V are the unit rows of `embeds` (n, d), `bonus` (n,) is of the order of 1. Each step takes the token with the
    largest `(1 - share) bonus_j + share log rest_j`, where `rest_j >= ridge` is the pivot of the Cholesky
    factorisation. `selected` conditions the volume. O(nk) similarities, O(k (d + k)) memory.
    """
    free = _free(embeds, k, selected)

    def worth(rest: Any, bonus: Any) -> tuple[Any, Any]:
        logarithm = rest.log() if isinstance(rest, Tensor) else np.log(rest)
        return (1 - share) * bonus + share * logarithm, TIE * (1 - share + share / rest)

    rule = Volume(Cosines(embeds), k + selected.numel(), worth, bonus.float(), ridge=ridge)
    rule.take(selected)
    return select_greedily(rule, k, free).sort().values


def select_coverage(weights: Weights, k: int, selected: Tensor, *, value: Tensor) -> Tensor:
    """Greedy maximum coverage of the rows of W (rows, n) >= 0 (MMTok, arXiv 2508.18264).

    A row is covered as well as its best selected token covers it; each step takes the token with the largest
    `gain_j = value_j sum_r max(0, W_rj - best_r)`, `value` (n,) >= 0. A sum within COVER_TIE of nothing is 0 however
    large its value. O(rows * n) to make W, and about O(rows * n * log k) beyond it. A W of more than 64 MiB is not
    kept, on a CPU: its rows are made anew as they are needed.
    """
    free = _free(value, k, selected)
    rule = Coverage(weights, value.float())
    rule.take(selected)
    return select_in_steps(rule, k, free).sort().values


def _free(rows: Tensor, k: int, selected: Tensor) -> Tensor:
    """(n,): which tokens are not selected."""
    n = len(rows)
    if k < 0 or k + selected.numel() > n:
        raise InputError(
            f"{k} new tokens beside {selected.numel()} selected ones cannot be chosen from {n}: choose fewer."
        )
    return torch.ones(n, dtype=torch.bool, device=rows.device).index_fill_(0, selected, False)
