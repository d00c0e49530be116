"""ERNIE 4.5 VL: pictures of any size, clips that merge two frames, M-RoPE, experts of their own for what is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.patches import Patches
from foveate.models.visual_input import Grid


class Ernie45VL(Patches):
    """`Ernie4_5_VLMoeForConditionalGeneration`. `moe_mm_token_type_ids` lose the same tokens as the prompt."""

    traits = replace(
        Patches.traits,
        summary="ERNIE 4.5 VL; M-RoPE, dynamic resolution, clips merge two frames, experts for text and for vision",
    )

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """Clips have half their frames."""
        merge = config.vision_config.temporal_merge_size if modality == "video" else 1
        found = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0] // merge, *grid[1:]) for grid in found]
