"""Selection rules: which k of n tokens, from scores or embeddings.

Common to all rules:
- They return `k` new indices (k,), ascending. `selected` (s,) are distinct indices that count as selected already and
  are not returned. k = 0 is allowed. `InputError` is raised if k + s > n.
- They are deterministic. Ties go to the lowest index, and values that float32 cannot tell apart are a tie. Otherwise
  the noise of a matrix product would decide between duplicate tokens, and CPU and GPU would disagree.
- Nothing is read back from an accelerator: there is no host sync in the loops.
- Beyond the inputs they need O(n) memory: no n x n matrix, no copy of the embeddings. `select_coverage` states its own.
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
    """Select the k highest `scores` (n,), which are on the scale of cosines. O(n log n)."""
    _find_free(scores, k, selected)
    return rank(scores.float().index_fill(0, selected, -math.inf), TIE)[:k].sort().values


@dataclass(frozen=True, eq=False)
class FarthestProblem:
    """Farthest points: repeatedly the token with the largest `w_j min_{i in S} d_ij`.

    `d_ij = 1 - cos(v_i, v_j) + place (1 - exp(-|p_i - p_j|^2 / 2))`. The second term, present with `places` only,
    separates tokens that look alike in different positions. A token within TIE of a selected one is a duplicate: its
    distance is 0, however large its weight. Without `selected`, the start is the largest weight; without weights it is
    the token whose nearest neighbour is farthest.

    Args:
        embeds: (n, d) tokens v.
        k: How many to select.
        selected: (s,) indices that are selected already.
        weight: (n,) weights w >= 0, of the order of 1; None for ones.
        places: (n, c) positions p.
        place: The weight of the positions.

    Source:
        DivPrune, arXiv 2503.02175, without weights; SCoRe, CVPR 2026, with weights.
    """

    embeds: Tensor
    k: int
    selected: Tensor
    weight: Tensor | None = None
    places: Tensor | None = None
    place: float = 0.0


def select_farthest(problems: Sequence[FarthestProblem]) -> list[Tensor]:
    """Solve problems of farthest points, all on one device; on a GPU one launch solves them together.

    O(nk) similarities. Without weights and `selected`, finding the start takes O(n^2) of them at worst, and much fewer
    if the image has a few odd tokens.

    Returns:
        The (k,) indices for each problem.
    """
    states = [_start(problem) for problem in problems]
    rules, starts, free = [s[0] for s in states], [s[1] for s in states], [s[2] for s in states]
    counts = [problem.k - start.numel() for problem, start in zip(problems, starts, strict=True)]
    if rules and all(kernel.is_usable(rule) for rule in rules):
        rests = kernel.launch_many(rules, counts, free)
    else:
        rests = [select_greedily(*each) for each in zip(rules, counts, free, strict=True)]
    return [torch.cat([start, rest]).sort().values for start, rest in zip(starts, rests, strict=True)]


def _start(problem: FarthestProblem) -> tuple[FarthestPoint, Tensor, Tensor]:
    """Return the rule's state after its start, the start (1,) unless something is selected, and what is free (n,)."""
    free = _find_free(problem.embeds, problem.k, problem.selected)
    cosines = Cosines(problem.embeds)
    weight = torch.ones_like(cosines.scale) if problem.weight is None else problem.weight.float()
    start = problem.selected[:0]
    if problem.k and not problem.selected.numel():
        unweighted = problem.weight is None
        start = find_most_isolated(cosines) if unweighted else find_first(weight + TIE * weight >= weight.amax())
    rule = FarthestPoint(cosines, weight, problem.places, problem.place)
    rule.take(torch.cat([problem.selected, start]))
    return rule, start, free.index_fill_(0, start, False)


def select_dpp(embeds: Tensor, relevance: Tensor, k: int, selected: Tensor) -> Tensor:
    """Select by greedy MAP of the determinantal point process `L_ij = r_i cos(v_i, v_j) r_j`.

    Each step takes the token with the largest `r_j^2 rest_j`, the pivot of the Cholesky factorisation of L. `rest_j` is
    the squared length of the unit vector v_j outside of the span of the selected tokens. Beyond the rank of the cosines
    (k > d, duplicates, blank pages) no token adds volume: once no `rest_j` is above 1e-5, the remaining places go to
    the highest relevance. O(nk) similarities, O(kd) memory.

    Args:
        embeds: (n, d) tokens v.
        relevance: (n,) relevance r >= 0.
        k: How many to select.
        selected: (s,) indices that condition the process.

    Source:
        CDPruner, arXiv 2506.10967.
    """
    free = _find_free(embeds, k, selected)
    weight = relevance.float().square()
    below = -(1 + TIE * weight.amax()) * torch.arange(1, len(embeds) + 1, device=weight.device)
    spare = torch.empty_like(weight).index_copy_(0, rank(relevance.float(), TIE), below)  # by relevance, all below 0

    def worth(rest: Any, weight: Any, spare: Any) -> tuple[Any, Any]:
        alive = rest > SPENT
        return alive * weight * rest + ~alive * spare, TIE * weight

    rule = Volume(Cosines(embeds), k + selected.numel(), worth, weight, spare)
    rule.take(selected)
    return select_greedily(rule, k, free).sort().values


def select_log_volume(embeds: Tensor, bonus: Tensor, k: int, selected: Tensor, *, share: float, ridge: float) -> Tensor:
    """Select a greedy maximum of `(1 - share) sum_{i in S} bonus_i + share log det(V_S V_S' + ridge I)`.

    Each step takes the token with the largest `(1 - share) bonus_j + share log rest_j`, where `rest_j >= ridge` is the
    pivot of the Cholesky factorisation. O(nk) similarities, O(k (d + k)) memory.

    Args:
        embeds: (n, d) tokens; V are these rows, scaled to length 1.
        bonus: (n,) values of the order of 1.
        k: How many to select.
        selected: (s,) indices that condition the volume.
        share: The weight of the volume, in [0, 1].
        ridge: Added to the diagonal, above 0.

    Source:
        CoIn, CVPR 2026.
    """
    free = _find_free(embeds, k, selected)

    def worth(rest: Any, bonus: Any) -> tuple[Any, Any]:
        logarithm = rest.log() if isinstance(rest, Tensor) else np.log(rest)
        return (1 - share) * bonus + share * logarithm, TIE * (1 - share + share / rest)

    rule = Volume(Cosines(embeds), k + selected.numel(), worth, bonus.float(), ridge=ridge)
    rule.take(selected)
    return select_greedily(rule, k, free).sort().values


def select_coverage(weights: Weights, k: int, selected: Tensor, *, value: Tensor) -> Tensor:
    """Select by greedy maximum coverage of the rows of W (rows, n) >= 0.

    A row is covered as well as its best selected token covers it. Each step takes the token with the largest
    `gain_j = value_j sum_r max(0, W_rj - best_r)`. A sum within COVER_TIE of 0 is 0, whatever its value. O(rows * n) to
    compute W, and about O(rows * n * log k) beyond it. On a CPU, a W of more than 64 MiB is not stored: its rows are
    computed again when they are needed.

    Args:
        weights: W.
        k: How many to select.
        selected: (s,) indices that cover already.
        value: (n,) values >= 0.

    Source:
        MMTok, arXiv 2508.18264.
    """
    free = _find_free(value, k, selected)
    rule = Coverage(weights, value.float())
    rule.take(selected)
    return select_in_steps(rule, k, free).sort().values


def _find_free(rows: Tensor, k: int, selected: Tensor) -> Tensor:
    """Return which of the n tokens are not selected, as (n,) bool; raise `InputError` if there are fewer than k."""
    n = len(rows)
    if k < 0 or k + selected.numel() > n:
        raise InputError(f"{k} new tokens and {selected.numel()} selected ones are more than {n}: choose fewer.")
    return torch.ones(n, dtype=torch.bool, device=rows.device).index_fill_(0, selected, False)
