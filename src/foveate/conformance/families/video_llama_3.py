"""VideoLLaMA3: a merge size for each image and video, and videos without repeated tokens."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyTimestamped
from foveate.models.base import Inputs
from foveate.models.video_llama_3 import DROPPED


class TinyVideoLlama3(TinyTimestamped):
    """Tiny models of `VideoLlama3`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Every other video has a mask that leaves out tokens of its later frames."""
        made = super().make_inputs(config, modality, rows, rng)
        if modality == "image":
            return made | {"image_merge_sizes": torch.ones(sum(rows), dtype=torch.long)}
        stays = []
        for number, (t, h, w) in enumerate(made["video_grid_thw"].tolist()):
            places = torch.arange(t * h * w // 4)
            stays.append((places < h * w // 4) | (places % 3 > 0) if number % 2 else places >= 0)
        return made | {"video_merge_sizes": torch.full((sum(rows),), 2), DROPPED: torch.cat(stays)}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the merge sizes."""
        own, name = super().select_inputs(config, inputs, modality, row, items), f"{modality}_merge_sizes"
        return {**own, name: inputs[name][items.start : items.stop]}
