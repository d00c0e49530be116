"""HY-V4-VL: pictures of any size whose rows end in a newline token, M-RoPE, sparse attention with an indexer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Inputs
from foveate.models.patches import Patches
from foveate.models.visual_input import Grid


class HYV4VL(Patches):
    """`HYV4VLForConditionalGeneration`. The sparse attention picks among the kept tokens."""

    traits = replace(
        Patches.traits,
        summary="HY-V4-VL; M-RoPE, dynamic resolution, newline tokens stay, sparse attention with an indexer",
    )

    def grids(
        self, config: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Grid | None]:
        """With a column of newlines; None where the inputs do not say."""
        if inputs.get(f"{modality}_grid_thw") is None:
            return [None] * len(features)
        found = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0], grid[1], grid[2] + 1) for grid in found]

    def protected(
        self, model: Any, inputs: Inputs, features: Sequence[Tensor], modality: str = "image"
    ) -> list[Tensor | None]:
        """Newlines, the last of each row."""
        newline = model.base_model.vision_tower.patch_merger.image_newline
        return [(feature == newline.to(feature)).all(-1) for feature in features]
