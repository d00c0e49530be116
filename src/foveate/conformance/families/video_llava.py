"""Video-LLaVA: videos of three frames."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily


class TinyVideoLlava(TinyFamily):
    """Tiny models of `VideoLlava`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Frame by frame."""
        if modality == "image":
            return super().make_inputs(config, modality, rows, rng)
        side = image_size(config)
        return {"pixel_values_videos": torch.randn(sum(rows), 3, 3, side, side, generator=rng)}
