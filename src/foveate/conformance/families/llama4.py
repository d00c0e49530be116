"""Llama 4: tiles of one size, pixel-shuffled; the model itself projects them into the language model's space."""

from __future__ import annotations

from typing import Any

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.visual_input import Grid


class TinyLlama4(TinyFamily):
    """Tiny models of `Llama4`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Between the marks of beginning and end."""
        return [config.boi_token_id, *super().prompt_ids(config, modality, tokens, grid), config.eoi_token_id]
