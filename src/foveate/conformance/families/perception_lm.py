"""PerceptionLM: an image's tiles or a video's frames in one entry."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily


class TinyPerceptionLM(TinyFamily):
    """Tiny models of `PerceptionLM`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Two tiles, or three frames."""
        count = 2 if modality == "image" else 3
        side = image_size(config)
        return {self.main_inputs[modality]: torch.randn(sum(rows), count, 3, side, side, generator=rng)}
