"""Ovis2: patches as mixtures of a visual vocabulary, whose last entries say in the prompt how tiles lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from foveate.models.base import Family
from foveate.models.kept import Mixes


class Ovis2(Family):
    """`Ovis2ForConditionalGeneration`; the budget is a tile's."""

    tiles_apart = True  # the overview comes first, but the stock processor may lay out the tiles the wrong way round
    summary = "Ovis2; visual vocabulary, every tile counts as a picture"

    def keep(self, encoded: Any, kept: Sequence[Tensor], rows: Sequence[int], mixes: Mixes = ()) -> Any:
        """With what the indicators in the prompt are embedded as."""
        short = super().keep(encoded, kept, rows, mixes)
        short.visual_indicator_features = encoded.visual_indicator_features
        return short
