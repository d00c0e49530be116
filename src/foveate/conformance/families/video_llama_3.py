"""VideoLLaMA3: pictures of any size, one token a patch or a block of patches, and clips without what frames repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyTimestamped
from foveate.models.base import Inputs
from foveate.models.video_llama_3 import DROPPED


class TinyVideoLlama3(TinyTimestamped):
    """Tiny models of `VideoLlama3`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Every other clip with a mask that leaves out tokens of its later frames."""
        found = super().make_inputs(config, modality, rows, rng)
        if modality == "image":
            return found | {"image_merge_sizes": torch.ones(sum(rows), dtype=torch.long)}
        stays = []
        for number, (t, h, w) in enumerate(found["video_grid_thw"].tolist()):
            places = torch.arange(t * h * w // 4)
            stays.append((places < h * w // 4) | (places % 3 > 0) if number % 2 else places >= 0)
        return found | {"video_merge_sizes": torch.full((sum(rows),), 2), DROPPED: torch.cat(stays)}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """Every picture and clip has a merge size."""
        found, name = super().select_inputs(config, inputs, modality, row, items), f"{modality}_merge_sizes"
        found[name] = inputs[name][items.start : items.stop]
        if modality == "video" and DROPPED in inputs:
            ends = [0, *(inputs["video_grid_thw"].prod(-1) // inputs[name] ** 2).cumsum(0).tolist()]
            found[DROPPED] = inputs[DROPPED][ends[items.start] : ends[items.stop]]
        return found
