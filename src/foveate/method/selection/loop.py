"""The greedy loop that all rules share: repeatedly select the token with the highest value.

On an accelerator the loop goes step by step and reads nothing back. On a CPU, a step costs a pass over all tokens,
which memory limits. There, a few candidates are compared among themselves. Values only fall, so a selection is certain
as long as the best candidate is above the earlier value of every other token. Then one pass updates all tokens for
everything that was selected.
"""

import math
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TIE = 1e-6  # cosines and residuals of unit vectors this close are a tie: a few roundings of a float32 dot product
CANDIDATES = 2  # times the root of n: their own products then take less time than the pass over all tokens

Array = NDArray[np.floating[Any]]


class Rule(Protocol):
    """The state of a rule for all tokens."""

    def value(self) -> tuple[Tensor, Tensor]:
        """Return each token's present value (n,), and how far below the highest it still ties with it (n,)."""

    def take(self, index: Tensor) -> None:
        """Count the tokens at `index` (m,) as selected, in this order."""


class Candidates(Protocol):
    """The state of a rule for a few tokens; right as long as only these are selected."""

    def value(self) -> tuple[Array, Array]:
        """As `Rule.value`, for the candidates (c,)."""

    def take(self, place: int) -> None:
        """Count this candidate as selected."""


class BlockRule(Rule, Protocol):
    """A rule whose values, with and without what ties, only fall as tokens are selected."""

    def candidates(self, index: Tensor) -> Candidates:
        """Return the state for the tokens at `index` (c,), ascending."""


def select_greedily(rule: BlockRule, k: int, free: Tensor) -> Tensor:
    """Select k (k,) of the tokens that are `free` (n,), in the order of selection.

    Each is the lowest index of those whose value ties with the highest.
    """
    return (select_in_blocks if free.device.type == "cpu" else select_in_steps)(rule, k, free)


def find_first(mask: Tensor) -> Tensor:
    """Find the first True of (n,), as an index (1,): indexing with a 0-d tensor would be a host sync."""
    return mask.int().argmax(0, keepdim=True)


def rank(scores: Tensor, tie: Tensor | float) -> Tensor:
    """Return indices (n,) from the highest to the lowest of `scores` (n,); runs of neighbours within `tie` by index."""
    n = scores.shape[0]
    values, order = scores.sort(descending=True)
    run = torch.zeros_like(order)
    run[1:] = (values[:-1] - values[1:] > tie).cumsum(0)
    return order.index_select(0, (run * n + order).argsort())


def select_in_steps(rule: Rule, k: int, free: Tensor) -> Tensor:
    """As `select_greedily`, one at a time, without a host sync."""
    free = free.clone()
    picked = torch.empty(k, dtype=torch.long, device=free.device)
    for step in range(k):
        value, slack = rule.value()
        value = value.masked_fill(~free, -math.inf)
        pick = find_first(value + slack >= value.amax())
        picked[step : step + 1] = pick
        free.index_fill_(0, pick, False)
        rule.take(pick)
    return picked


def select_in_blocks(rule: BlockRule, k: int, free: Tensor) -> Tensor:
    """As `select_greedily`, as many at a time as are certain."""
    free = free.clone()
    count = 1 + int(CANDIDATES * len(free) ** 0.5)
    blocks = [torch.empty(0, dtype=torch.long, device=free.device)]
    while k:
        value, slack = rule.value()
        value = value.masked_fill(~free, -math.inf)
        # The highest and the one to select next are always candidates, so every block selects at least one token.
        highest, pick = value.argmax(0, keepdim=True), find_first(value + slack >= value.amax())
        index = torch.cat([rank(value, slack.amax())[:count], highest, pick]).unique()
        outside = value.index_fill(0, index, -math.inf)
        block = _select_certain(rule.candidates(index), index, k, free, outside, slack)
        if not len(block):  # rounding of the candidates' own products
            block = pick
        rule.take(block)
        free.index_fill_(0, block, False)
        blocks.append(block)
        k -= len(block)
    return torch.cat(blocks)


def _select_certain(
    candidates: Candidates, index: Tensor, k: int, free: Tensor, outside: Tensor, slack: Tensor
) -> Tensor:
    """Select at most k of the candidates at `index` (c,), as long as `outside` (n,), the values of others, is lower."""
    numbers, open_ = index.numpy(), free[index].numpy()
    highest, bound = float(outside.amax()), (outside + slack).numpy()
    places: list[int] = []
    while len(places) < k:
        value, near = candidates.value()
        value = np.where(open_, value, -np.inf)
        best = value.max()
        place = int((value + near >= best).argmax())
        if value[place] + near[place] < highest or (bound[: numbers[place]] >= best).any():
            break
        places.append(place)
        open_[place] = False
        candidates.take(place)
    return index[places]
