"""Granite Docling: tiles of a fixed number of tokens, and features of several vision layers (DeepStack)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.models.idefics3 import Idefics3
from foveate.models.kept import Mixes, keep_tokens, kept_output
from foveate.models.turn_markers import granite
from foveate.pipeline.question import Template


class GraniteDocling(Idefics3):
    """`GraniteDoclingForConditionalGeneration`. Every tile has a budget of its own, on both routes."""

    summary = "Granite Docling; a budget for every tile, markers of rows and columns stay, DeepStack"

    def keep(self, encoded: Any, kept: Sequence[Tensor], rows: Sequence[int], mixes: Mixes = ()) -> Any:
        """Of every tile, at every layer."""
        tokens = super().keep(encoded, kept, rows, mixes).pooler_output
        counts = [len(tile) for tile in self.features(encoded)]
        levels = [torch.cat(list(level)).split(counts) for level in encoded.deepstack_features]
        deep = [keep_tokens(level, kept, rows, mixes) for level in levels]
        return kept_output(encoded, pooler_output=tokens, deepstack_features=deep)

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Granite's."""
        return granite(super().template(config, stop_ids), config.get_text_config().vocab_size)

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)
