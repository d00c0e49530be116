"""Ovis2: patches as mixtures of a visual vocabulary, whose last entries say in the prompt how tiles lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foveate.models.base import Family
from foveate.models.visual_input import VisualInput


class Ovis2(Family):
    """`Ovis2ForConditionalGeneration`; the budget is a tile's."""

    # the overview comes first, but the stock processor may lay out the tiles the wrong way round
    traits = replace(Family.traits, summary="Ovis2; visual vocabulary, every tile counts as a picture")

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """With what the indicators in the prompt are embedded as."""
        short = super().keep(encoded, items)
        short.visual_indicator_features = encoded.visual_indicator_features
        return short
