"""Gemma 3: pictures of one size, pooled to a square of tokens that attend to each other in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foveate.models.base import Family
from foveate.models.template import Template, open_with

GEMMA_VOCABULARY = 262144
START_OF_TURN, BLANK_LINE = 105, 108  # of Gemma 3 and 4; no configuration names them


class Gemma(Family):
    """What the prompts of Gemma 3 and its successors share."""

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """As configured; a turn opens with Gemma's own token, and blank lines stand around pictures."""
        plain = super().template(config, stop_ids)
        if config.get_text_config().vocab_size < GEMMA_VOCABULARY:
            return plain
        return open_with(START_OF_TURN, plain, filler=[BLANK_LINE])


class Gemma3(Gemma):
    """`Gemma3ForConditionalGeneration`. Every pan-and-scan crop is a picture; local windows count kept tokens."""

    traits = replace(Gemma.traits, summary="Gemma 3; pictures attend to themselves in both directions, local windows")
