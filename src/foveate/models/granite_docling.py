"""Granite Docling: tiles of a fixed number of tokens, and features of several vision layers (DeepStack)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from foveate.models.idefics3 import Idefics3
from foveate.models.kept import keep_tokens, kept_output
from foveate.models.template import Template, granite_template
from foveate.models.visual_input import VisualInput


class GraniteDocling(Idefics3):
    """`GraniteDoclingForConditionalGeneration`. Every tile has a budget of its own, on both routes."""

    traits = replace(
        Idefics3.traits, summary="Granite Docling; a budget for every tile, markers of rows and columns stay, DeepStack"
    )

    def keep(self, encoded: Any, items: Sequence[VisualInput]) -> Any:
        """Of every tile, at every layer."""
        tokens = super().keep(encoded, items).pooler_output
        counts = [len(tile) for tile in self.features(encoded)]
        levels = [torch.cat(list(level)).split(counts) for level in encoded.deepstack_features]
        deep = [keep_tokens(level, items) for level in levels]
        return kept_output(encoded, pooler_output=tokens, deepstack_features=deep)

    def template(self, config: Any, stop_ids: Sequence[int]) -> Template:
        """Granite's."""
        return granite_template(super().template(config, stop_ids), config.get_text_config().vocab_size)

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)
