"""Grid: a uniform stride over the tokens, the baseline that knows neither picture nor question."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foveate.method.base import Method
from foveate.method.tokens import VisualTokens


@dataclass(frozen=True)
class Grid(Method):
    """k tokens spread evenly over the (t, h, w) grid; over the sequence where there is no grid.

    Frames are taken at an even stride, then rows of a frame, then tokens of a row, with about the same stride along
    each axis of more than one step. Where k does not divide, some frames or rows get one token more. With `selected`
    the stride runs over the other tokens in their order.
    """

    name: ClassVar[str] = "grid"
    paper: ClassVar[str] = "baseline"
    summary: ClassVar[str] = "a uniform stride over the token grid"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        n = tokens.embeds.shape[0]
        taken = set(selected.tolist())
        free = [i for i in range(n) if i not in taken]
        shape = tokens.grid if tokens.grid and not taken else (len(free),)
        return torch.tensor([free[i] for i in _spread(shape, k)], dtype=torch.long, device=selected.device)


def _spread(shape: Sequence[int], k: int) -> list[int]:
    """k distinct flat indices, ascending, spread over a grid of this shape; 1 <= k <= its size."""
    length, inner = shape[0], math.prod(shape[1:])
    if inner == 1:
        return _centres(length, k)
    axes = sum(size > 1 for size in shape)
    stride = (length * inner / k) ** (1 / max(axes, 1))
    fewest = -(-k // inner)  # a slice holds no more than `inner`
    slices = min(max(round(length / stride), fewest), length, k)
    bounds = [i * k // slices for i in range(slices + 1)]
    return [
        place * inner + index
        for place, low, high in zip(_centres(length, slices), bounds, bounds[1:], strict=False)
        for index in _spread(shape[1:], high - low)
    ]


def _centres(n: int, k: int) -> list[int]:
    """The middles of k equal parts of n places: distinct, since a part is at least one place long."""
    return [(2 * i + 1) * n // (2 * k) for i in range(k)]
