"""Ovis2: patches as mixtures of a visual vocabulary, whose last entries say in the prompt how tiles lie."""

from __future__ import annotations

from typing import Any

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.visual_input import Grid


class TinyOvis2(TinyFamily):
    """Tiny models of `Ovis2`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Between indicators: start, tile, grid, end."""
        start, end, whole, *_ = config.visual_indicator_token_ids
        return [start, *super().prompt_ids(config, modality, tokens, grid), whole, end]
