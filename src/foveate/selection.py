"""Selection rules: which k of n tokens, given scores or embeddings. Pure tensors.

What all of them promise. They return `k` new indices (k,), ascending, never one of `given` (g,), distinct indices that
count as selected already. They are deterministic, and ties go to the lowest index; what differs by less than float32
can tell is a tie, so that duplicate tokens do not fall to the noise of a matrix product and CPU and GPU agree. Nothing
is read back from an accelerator, so the loops hold no host sync, and none builds an n x n matrix.

Each raises `InputError` if `k` new tokens cannot be had beside `given`. k = 0 is allowed and gives none.
"""

import math

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.tokens import unit_rows

TIE = 1e-6  # cosines (and residuals of unit vectors) this close are equal: a few roundings of a float32 dot product
COVER_TIE = 1e-5  # the same for gains of coverage, as a share of the column: softmax at tau 0.02 magnifies by 50
SPENT = 1e-5  # a unit vector with less than this left outside of the span of the selected adds nothing to a DPP
BLOCK = 256  # rows of the similarity matrix that exist at a time
AHEAD = 32  # rows of it that are made together for the tokens that are likely to be chosen next


def top_k(scores: Tensor, k: int, given: Tensor) -> Tensor:
    """The k highest `scores` (n,), on the scale of cosines. O(n log n)."""
    _check_room(scores.shape[0], k, given)
    return _ranked(scores.float().index_fill(0, given, -math.inf))[:k].sort().values


def farthest_point(embeds: Tensor, k: int, given: Tensor) -> Tensor:
    """Again and again the token of `embeds` (n, d) whose nearest selected token is farthest, by cosine.

    Without `given` it starts from the token whose nearest neighbour is farthest (DivPrune, arXiv 2503.02175).
    O(nk) similarities, and O(n) memory beside the normalised copy of `embeds`; that start takes O(n^2) similarities, a
    block of rows at a time.
    """
    n = embeds.shape[0]
    _check_room(n, k, given)
    unit = unit_rows(embeds)
    picked = given.new_empty(k)
    nearest = unit.new_full((n,), -math.inf)  # each token's similarity to its nearest selected token
    for start in range(0, given.numel(), BLOCK):
        block = unit.index_select(0, given[start : start + BLOCK])
        nearest = torch.maximum(nearest, (unit @ block.T).amax(1))
    nearest.index_fill_(0, given, math.inf)
    rows = _Rows(unit)
    for step in range(k):
        value = nearest if step or given.numel() else _nearest_neighbour(unit)
        pick = _first(value <= value.amin() + TIE)
        picked[step : step + 1] = pick
        # A running MAX of similarity, then the min of it: a running min would look for the token that is far from
        # *some* selected token, which nearly every token is.
        nearest = torch.maximum(nearest, rows.of(pick, -value)).index_fill_(0, pick, math.inf)
    return picked.sort().values


def weighted_farthest_point(
    embeds: Tensor, weight: Tensor, k: int, given: Tensor, *, places: Tensor | None = None, place: float = 0.0
) -> Tensor:
    """Again and again the token with the largest `w_j min_{i in S} d_ij` (SCoRe).

    `d_ij = 1 - cos` of `embeds` (n, d); with `places` (n, c) it grows by `place (1 - exp(-|p_i - p_j|^2 / 2))`, so that
    what looks alike but lies elsewhere is not quite a duplicate. `weight` w (n,) >= 0 is of the order of 1. A token
    within TIE of a selected one is a duplicate, at distance 0 however large its weight. Without `given` it starts from
    the largest weight. O(nk) similarities.
    """
    n = embeds.shape[0]
    _check_room(n, k, given)
    unit, weight = unit_rows(embeds), weight.float()

    def near(like: Tensor, chosen: Tensor) -> Tensor:
        """(n,), each token's similarity to the nearest of `chosen` (c,), of which `like` (n, c) are the cosines."""
        if places is not None:
            # No matrix product here: the difference of two large squares would blur the distances of a large grid.
            apart = torch.cdist(places, places.index_select(0, chosen), compute_mode="donot_use_mm_for_euclid_dist")
            like = like - place * (1 - (-0.5 * apart.square()).exp_())
        return like.amax(1)

    picked = given.new_empty(k)
    free = torch.ones_like(weight, dtype=torch.bool).index_fill_(0, given, False)
    gap = torch.ones_like(weight)  # each token's distance to its nearest selected token; no matter before there is one
    for start in range(0, given.numel(), BLOCK):
        chosen = given[start : start + BLOCK]
        block = 1 - near(unit @ unit.index_select(0, chosen).T, chosen)
        gap = torch.minimum(gap, block) if start else block
    rows = _Rows(unit)
    for step in range(k):
        value = (gap * (gap > TIE) * weight).masked_fill(~free, -math.inf)
        pick = _first(value + TIE * weight >= value.amax())
        picked[step : step + 1] = pick
        free.index_fill_(0, pick, False)
        block = 1 - near(rows.of(pick, value)[:, None], pick)
        gap = torch.minimum(gap, block) if step or given.numel() else block
    return picked.sort().values


def dpp(embeds: Tensor, relevance: Tensor, k: int, given: Tensor) -> Tensor:
    """Greedy MAP of the determinantal point process `L_ij = r_i S_ij r_j` (CDPruner, arXiv 2506.10967).

    `embeds` (n, d) give S, their cosines; `relevance` r (n,) >= 0. Each step takes the token with the largest
    `r_j^2 * rest_j`, where `rest_j` is what is left of the unit vector v_j outside of the span of the selected: the
    pivot of the Cholesky factorisation of L. `given` conditions the process. O(nk) similarities, O(nd) memory.

    Past the rank of S (k > d, duplicates, blank pages) no token adds volume: once none has a `rest_j` above 1e-5 the
    remaining places go to the highest relevance, lowest index first.
    """
    n, d = embeds.shape
    _check_room(n, k, given)
    unit = unit_rows(embeds)
    weight = relevance.float().square()
    spare = -1.0 - torch.arange(n, dtype=torch.float32, device=unit.device)  # below any gain, in order of relevance
    spare = torch.empty_like(spare).index_copy_(0, _ranked(relevance.float()), spare)
    rest = unit.square().sum(1)
    chosen = torch.cat([given, given.new_empty(k)])
    basis = unit.new_zeros(chosen.numel(), d)
    for row in range(chosen.numel()):
        if row >= given.numel():
            alive = rest > SPENT
            gain = torch.where(alive, weight * rest, spare)
            chosen[row : row + 1] = _first(torch.where(alive, weight * (rest + TIE), spare) >= gain.amax())
        pick = chosen[row : row + 1]
        _project_out(unit, rest, basis, row, pick)
        rest.index_fill_(0, pick, -math.inf)
        spare.index_fill_(0, pick, -math.inf)
    return chosen[given.numel() :].sort().values


def log_volume(embeds: Tensor, bonus: Tensor, k: int, given: Tensor, *, share: float, ridge: float) -> Tensor:
    """Greedy maximum of `(1 - share) sum_S bonus + share log det(V_S V_S' + ridge I)` (CoIn).

    V are the unit rows of `embeds` (n, d), `bonus` (n,) is of the order of 1. Each step takes the token with the
    largest `(1 - share) bonus_j + share log rest_j`, where `rest_j >= ridge` is the pivot of the Cholesky
    factorisation. `given` conditions the volume. O(nk) similarities, O(nk) memory.
    """
    n = embeds.shape[0]
    _check_room(n, k, given)
    unit, bonus = unit_rows(embeds), (1 - share) * bonus.float()
    rest = unit.square().sum(1) + ridge
    chosen = torch.cat([given, given.new_empty(k)])
    factor = unit.new_zeros(chosen.numel(), n)
    barred = torch.zeros_like(rest)
    for row in range(chosen.numel()):
        if row >= given.numel():
            gain = bonus + share * rest.log() + barred
            chosen[row : row + 1] = _first(gain + TIE * (1 - share + share / rest) >= gain.amax())
        pick = chosen[row : row + 1]
        column = unit @ unit.index_select(0, pick).squeeze(0)
        column.index_add_(0, pick, torch.full_like(column[:1], ridge))
        column -= factor[:row].T @ factor[:row].index_select(1, pick).squeeze(1)
        factor[row] = column / rest.index_select(0, pick).sqrt()
        rest = (rest - factor[row].square()).clamp_(min=ridge)
        barred.index_fill_(0, pick, -math.inf)
    return chosen[given.numel() :].sort().values


def coverage(weights: Tensor, k: int, given: Tensor, *, value: Tensor | None = None) -> Tensor:
    """Greedy maximum coverage of the rows of `weights` (rows, n) >= 0 (MMTok, arXiv 2508.18264).

    A row is covered as well as its best selected token covers it; each step takes the token with the largest
    `gain_j = value_j sum_r max(0, W_rj - best_r)`, `value` (n,) >= 0 being all ones unless given. A sum within
    COVER_TIE of nothing is 0 however large its value. O(rows * n * k) time and one more matrix of the size of
    `weights`.
    """
    n = weights.shape[1]
    _check_room(n, k, given)
    weights = weights.float()
    picked = given.new_empty(k)
    best = weights.index_select(1, given).amax(1) if given.numel() else weights.new_zeros(weights.shape[0])
    barred = weights.new_zeros(n).index_fill_(0, given, -math.inf)
    worth = weights.new_ones(n) if value is None else value.float()
    least = COVER_TIE * weights.sum(0)
    slack = least * worth
    excess = torch.empty_like(weights)  # (rows, n), reused by every step
    for step in range(k):
        extra = torch.sub(weights, best[:, None], out=excess).clamp_(min=0).sum(0)
        gain = extra * (extra > least) * worth + barred
        pick = _first(gain + slack >= gain.amax())
        picked[step : step + 1] = pick
        best = torch.maximum(best, weights.index_select(1, pick).squeeze(1))
        barred.index_fill_(0, pick, -math.inf)
    return picked.sort().values


class _Rows:
    """Rows of the similarity matrix of unit vectors (n, d), one by one as a greedy rule asks for them.

    A row costs a pass over all tokens, and memory is what limits it. On a CPU a miss makes the rows of the `AHEAD`
    most promising tokens in the same pass; most of them are chosen next. Elsewhere to look a row up would read the
    choice back to the host.
    """

    def __init__(self, unit: Tensor) -> None:
        self.unit = unit
        self.made: dict[int, Tensor] = {}

    def of(self, pick: Tensor, promise: Tensor) -> Tensor:
        """(n,): the row of the token `pick` (1,); `promise` (n,) is highest for those that may come next."""
        if self.unit.device.type != "cpu":
            return self.unit @ self.unit.index_select(0, pick).squeeze(0)
        if int(pick) not in self.made:
            ahead = promise.topk(min(AHEAD, len(promise))).indices
            wanted = torch.cat([pick, ahead[ahead != pick]])
            block = self.unit.index_select(0, wanted) @ self.unit.T
            self.made = dict(zip(wanted.tolist(), block, strict=True))
        return self.made[int(pick)]


def _check_room(n: int, k: int, given: Tensor) -> None:
    if k < 0 or k + given.numel() > n:
        raise InputError(f"{k} new tokens beside {given.numel()} given ones cannot be chosen from {n}: choose fewer.")


def _first(true: Tensor) -> Tensor:
    """Index of the first True of (n,), as (1,): indexing with a 0-d tensor would read it back to the host."""
    return true.int().argmax(0, keepdim=True)


def _ranked(scores: Tensor) -> Tensor:
    """Indices (n,) from the highest of `scores` (n,) to the lowest; a run of neighbours within TIE goes by index."""
    n = scores.shape[0]
    values, order = scores.sort(descending=True)
    run = torch.zeros_like(order)
    run[1:] = (values[:-1] - values[1:] > TIE).cumsum(0)
    return order.index_select(0, (run * n + order).argsort())


def _nearest_neighbour(unit: Tensor) -> Tensor:
    """Each row's largest cosine to another row (n,): -inf for an only row."""
    nearest = unit.new_empty(unit.shape[0])
    for start in range(0, unit.shape[0], BLOCK):
        similarity = unit[start : start + BLOCK] @ unit.T  # (block, n)
        similarity.diagonal(start).fill_(-math.inf)
        nearest[start : start + BLOCK] = similarity.amax(1)
    return nearest


def _project_out(unit: Tensor, rest: Tensor, basis: Tensor, row: int, pick: Tensor) -> None:
    """Take the direction that token `pick` adds, `basis[row]`, out of `rest`: one Gram-Schmidt step, in place.

    The Cholesky rows (k, n) of the paper say the same, but divide by sqrt(rest) and so lose digits where `rest` is
    small; an orthonormal basis (k, d), projected twice, does not.
    """
    fresh = unit.index_select(0, pick).squeeze(0)
    for _ in range(2):
        fresh = fresh - basis[:row].T @ (basis[:row] @ fresh)
    fresh = unit_rows(fresh) * (rest.index_select(0, pick) > SPENT)
    basis[row] = fresh
    rest -= (unit @ fresh).square()
