"""Ovis2: patches as mixtures of a visual vocabulary, whose last entries say in the prompt how tiles lie."""

from collections.abc import Sequence
from typing import Any

from foveate.models.base import Inputs
from foveate.models.prompt_rows import PromptRow, Starts, starts_with
from foveate.models.tiling import TiledFamily
from foveate.models.visual_input import VisualInput


class Ovis2(TiledFamily):
    """Ovis2; tiles, visual vocabulary."""

    # no overview, as the tiles must not be drawn: the stock processor may lay them out the wrong way round

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """By the indicator of an image's start."""
        return starts_with(row, config.visual_indicator_token_ids[0])

    def regroup(self, encoded: Any, sizes: Sequence[int]) -> Any:
        """With the indicators."""
        return self._with_indicators(super().regroup(encoded, sizes), encoded)

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """With what the indicators in the prompt are embedded as."""
        return self._with_indicators(super().keep(encoded, items), encoded)

    def _with_indicators(self, output: Any, encoded: Any) -> Any:
        output.visual_indicator_features = encoded.visual_indicator_features
        return output
