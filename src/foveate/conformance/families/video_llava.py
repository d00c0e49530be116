"""Video-LLaVA: pictures as in LLaVA-1.5, clips through a tower of their own, frame by frame with [CLS] tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily


class TinyVideoLlava(TinyFamily):
    """Tiny models of `VideoLlava`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Clips of three frames."""
        if modality == "image":
            return super().make_inputs(config, modality, rows, rng)
        side = image_size(config)
        return {"pixel_values_videos": torch.randn(sum(rows), 3, 3, side, side, generator=rng)}
