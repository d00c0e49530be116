"""Grid: a uniform stride over the tokens, the baseline that ignores image and question."""

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
    """k tokens spread evenly over the (t, h, w) grid, or over the sequence if there is no grid.

    First frames are taken at an even stride, then rows of a frame, then tokens of a row, with about the same stride
    along each axis longer than 1. If k is not divisible, some frames or rows get one token more. If some tokens are
    already selected, the stride is over the sequence of the others.
    """

    name: ClassVar[str] = "grid"
    paper: ClassVar[str] = "baseline"
    summary: ClassVar[str] = "a uniform stride over the token grid"
    prompt_aware: ClassVar[bool] = False
    spatial: ClassVar[bool] = True

    def _select(self, tokens: VisualTokens, k: int, selected: Tensor) -> Tensor:
        taken = set(selected.tolist())
        free = [i for i in range(len(tokens.embeds)) if i not in taken]
        shape = tokens.grid if tokens.grid and not taken else (len(free),)
        return torch.tensor([free[i] for i in _spread(shape, k)], dtype=torch.long, device=selected.device)


def _spread(shape: Sequence[int], k: int) -> list[int]:
    """Spread k distinct flat indices, ascending, over a grid of this shape; 1 <= k <= its size."""
    length, inner = shape[0], math.prod(shape[1:])
    if inner == 1:
        return _centre(length, k)
    axes = sum(size > 1 for size in shape)
    stride = (length * inner / k) ** (1 / max(axes, 1))
    fewest = -(-k // inner)  # a slice has room for `inner`
    slices = min(max(round(length / stride), fewest), length, k)
    bounds = [i * k // slices for i in range(slices + 1)]
    return [
        place * inner + index
        for place, low, high in zip(_centre(length, slices), bounds, bounds[1:], strict=False)
        for index in _spread(shape[1:], high - low)
    ]


def _centre(n: int, k: int) -> list[int]:
    """Take the middles of k equal parts of n places; they are distinct because k <= n."""
    return [(2 * i + 1) * n // (2 * k) for i in range(k)]
