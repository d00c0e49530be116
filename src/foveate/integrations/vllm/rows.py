"""The rows in which kept tokens travel through the engine: features, and behind them the offset within the image.

The engine caches, slices and gathers the two together. Offsets are written as digits below 256, which bfloat16 holds
exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

AXES, BASE = 3, 256
COLUMNS = 2 * AXES


def append_offsets(rows: Tensor, offsets: Tensor) -> Tensor:
    """(n, d) rows and (3, n) offsets as (n, d + 6)."""
    digits = torch.stack((offsets // BASE, offsets % BASE)).flatten(0, 1).T
    return torch.cat((rows, digits.to(rows)), 1)


def read_offsets(rows: Tensor) -> Tensor:
    """(3, n): the offsets that `append_offsets` wrote."""
    high, low = rows[:, -COLUMNS:].T.long().unflatten(0, (2, AXES))
    return torch.add(low, high, alpha=BASE)


def join_rows(parts: Sequence[Any]) -> Any:
    """The rows of tensors, or of lists, one after the other."""
    if len(parts) == 1:
        return parts[0]
    return torch.cat(list(parts)) if isinstance(parts[0], Tensor) else [row for part in parts for row in part]
