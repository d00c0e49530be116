"""ERNIE 4.5 VL: images of any size, videos that merge two frames, M-RoPE, experts of their own for what is seen."""

from typing import Any

from foveate.models.base import Features, Grids, Inputs
from foveate.models.patches import Patches


class Ernie45VL(Patches):
    """ERNIE 4.5 VL; M-RoPE, dynamic resolution, videos merge two frames, experts for text and for vision.

    `moe_mm_token_type_ids` lose the same tokens as the prompt.
    """

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Videos have half their frames."""
        merge = config.vision_config.temporal_merge_size if modality == "video" else 1
        grids = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0] // merge, *grid[1:]) for grid in grids]
