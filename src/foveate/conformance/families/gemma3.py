"""Gemma 3: pictures of one size, pooled to a square of tokens that attend to each other in both directions."""

from __future__ import annotations

from typing import Any

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.visual_input import Grid


class TinyGemma(TinyFamily):
    """Tiny models of `Gemma`."""

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Between the marks of beginning and end."""
        return [config.boi_token_id, *super().prompt_ids(config, modality, tokens, grid), config.eoi_token_id]


class TinyGemma3(TinyGemma):
    """Tiny models of `Gemma3`."""

    def randomize_zeros(self, model: Any) -> None:
        """The projector starts at zero."""
        model.base_model.multi_modal_projector.mm_input_projection_weight.normal_()
