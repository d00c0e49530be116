"""The greedy loop that all rules share: again and again the token of the highest value.

On an accelerator it goes step by step and reads nothing back. On a CPU the cost of a step is a pass over all tokens,
which memory limits. There a few candidates are looked at among themselves: values only ever fall, so for as long as the
best candidate is above what every other token was worth before, the choice is certain. What was chosen is then counted
for all tokens in one pass.
"""

import math
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TIE = 1e-6  # cosines (and residuals of unit vectors) this close are equal: a few roundings of a float32 dot product
CANDIDATES = 2  # times the root of n: their own products then take less than the pass over all tokens does

Array = NDArray[np.floating[Any]]


class Rule(Protocol):
    """A rule's state for all tokens."""

    def value(self) -> tuple[Tensor, Tensor]:
        """(n,), (n,): each token's value now, and how much less than the highest still ties with it."""

    def take(self, index: Tensor) -> None:
        """Count the tokens at `index` (m,) as chosen, in this order."""


class Candidates(Protocol):
    """A rule's state for a few tokens alone, right for as long as only they are chosen."""

    def value(self) -> tuple[Array, Array]:
        """(c,), (c,): as `Rule.value`."""

    def take(self, place: int) -> None:
        """Count this candidate as chosen."""


class BlockRule(Rule, Protocol):
    """A rule whose values only fall as tokens are chosen, with what ties or without."""

    def candidates(self, index: Tensor) -> Candidates:
        """The tokens at `index` (c,), ascending, by themselves."""


def select_greedily(rule: BlockRule, k: int, free: Tensor) -> Tensor:
    """The k tokens (k,) that come next, of those that are `free` (n,), in the order in which they are chosen.

    Each is the first in line of those whose value ties with the highest.
    """
    return (select_in_blocks if free.device.type == "cpu" else select_in_steps)(rule, k, free)


def find_first(true: Tensor) -> Tensor:
    """Index of the first True of (n,), as (1,): indexing with a 0-d tensor would read it back to the host."""
    return true.int().argmax(0, keepdim=True)


def rank(scores: Tensor, tie: Tensor | float) -> Tensor:
    """Indices (n,) from the highest of `scores` (n,) to the lowest; a run of neighbours within `tie` goes by index."""
    n = scores.shape[0]
    values, order = scores.sort(descending=True)
    run = torch.zeros_like(order)
    run[1:] = (values[:-1] - values[1:] > tie).cumsum(0)
    return order.index_select(0, (run * n + order).argsort())


def select_in_steps(rule: Rule, k: int, free: Tensor) -> Tensor:
    """`select_greedily`, one by one, without a look at what was chosen."""
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
    """`select_greedily`, as many at a time as are certain."""
    free = free.clone()
    count = 1 + int(CANDIDATES * len(free) ** 0.5)
    blocks = [torch.empty(0, dtype=torch.long)]
    while k:
        value, slack = rule.value()
        value = value.masked_fill(~free, -math.inf)
        # The highest and the first in line are among the candidates, so that every block moves on.
        highest, pick = value.argmax(0, keepdim=True), find_first(value + slack >= value.amax())
        index = torch.cat([rank(value, slack.amax())[:count], highest, pick]).unique()
        outside = value.index_fill(0, index, -math.inf)
        block = _block(rule.candidates(index), index, k, free, outside, slack)
        if not len(block):  # the candidates' own rounding
            block = pick
        rule.take(block)
        free.index_fill_(0, block, False)
        blocks.append(block)
        k -= len(block)
    return torch.cat(blocks)


def _block(candidates: Candidates, index: Tensor, k: int, free: Tensor, outside: Tensor, slack: Tensor) -> Tensor:
    """At most `k` of the candidates at `index` (c,): those that are certain, whatever `outside` (n,) are worth now."""
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
