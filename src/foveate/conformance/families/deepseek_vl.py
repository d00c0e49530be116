"""DeepSeek-VL's hybrid: every image in two resolutions."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily


class TinyDeepseekVLHybrid(TinyFamily):
    """Tiny models of `DeepseekVLHybrid`."""

    item_inputs = ("high_res_pixel_values",)

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """In both resolutions."""
        side = config.high_res_vision_config.image_size
        sharp = torch.randn(sum(rows), 3, side, side, generator=rng)
        return super().make_inputs(config, modality, rows, rng) | {"high_res_pixel_values": sharp}
