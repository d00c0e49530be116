"""Gemma 3: pictures of one size, pooled to a square of tokens that attend to each other in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveate.models.base import Family
from foveate.models.item import Grid
from foveate.models.turn_markers import opened_by
from foveate.pipeline.question import Template

GEMMA_VOCABULARY = 262144
START_OF_TURN, BLANK_LINE = 105, 108  # of Gemma 3 and 4; no configuration names them


class Gemma(Family):
    """What the prompts of Gemma 3 and its successors share."""

    def span(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Between the marks of beginning and end."""
        return [config.boi_token_id, *super().span(config, modality, tokens, grid), config.eoi_token_id]

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured; a turn opens with Gemma's own token, and blank lines stand around pictures."""
        plain = super().template(config, stop_ids)
        if config.get_text_config().vocab_size < GEMMA_VOCABULARY:
            return plain
        return opened_by(START_OF_TURN, plain, filler=[BLANK_LINE])


class Gemma3(Gemma):
    """`Gemma3ForConditionalGeneration`. Every pan-and-scan crop is a picture; local windows count kept tokens."""

    summary = "Gemma 3; pictures attend to themselves in both directions, local windows"
    tiny = {
        "text_config": {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]},
        "vision_config": {"patch_size": 4},
        "mm_tokens_per_image": 16,
    }

    def wake(self, model: Any) -> None:
        """The projector starts at zero."""
        model.base_model.multi_modal_projector.mm_input_projection_weight.normal_()
