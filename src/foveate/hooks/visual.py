"""Where the visual tokens are in a cache that holds its whole prompt, recorded on the cache itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import torch
from torch import Tensor

from foveate.hooks.record import VISUAL, read_record, write_record


@dataclass(frozen=True, eq=False)
class VisualColumns:
    """Which columns of a cache hold visual tokens.

    Args:
        visual: (b, S) bool, true for visual tokens.
        name: Of the prompt.
    """

    visual: Tensor
    name: UUID

    def fit(self, length: int) -> VisualColumns:
        """The record of a cache of this length, which grew by text or was cut back."""
        longer = torch.nn.functional.pad(self.visual, (0, max(length - self.visual.shape[1], 0)))
        return replace(self, visual=longer[:, :length])

    def select(self, rows: Tensor) -> VisualColumns:
        """The record for these rows (n,)."""
        return replace(self, visual=self.visual[rows.to(self.visual.device)])

    def count_rows(self) -> int:
        """Number of rows."""
        return len(self.visual)


def record_visual(cache: Any, record: VisualColumns) -> None:
    """Note on a cache where its visual tokens are; it takes new tokens as before."""
    write_record(cache, VISUAL, record)


def read_visual(cache: Any) -> VisualColumns | None:
    """The record of a cache, for as many columns as it holds, which it is from then on; None where there is none."""
    record: VisualColumns | None = None if cache is None else read_record(cache, VISUAL)
    if record is None:
        return None
    fitting = record.fit(int(cache.get_seq_length()))
    record_visual(cache, fitting)
    return fitting
