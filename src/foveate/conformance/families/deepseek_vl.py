"""DeepSeek-VL and Janus: one picture, one square of tokens, of two towers in the hybrid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs


class TinyDeepseekVLHybrid(TinyFamily):
    """Tiny models of `DeepseekVLHybrid`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Every picture in two resolutions."""
        side = config.high_res_vision_config.image_size
        sharp = torch.randn(sum(rows), 3, side, side, generator=rng)
        return super().make_inputs(config, modality, rows, rng) | {"high_res_pixel_values": sharp}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Both resolutions."""
        sharp = inputs["high_res_pixel_values"][items.start : items.stop]
        return super().select_inputs(config, inputs, modality, row, items) | {"high_res_pixel_values": sharp}
