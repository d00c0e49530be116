"""HY-V4-VL: images of any size whose rows end in a newline token, M-RoPE, sparse attention with an indexer."""

from typing import Any

from foveate.models.base import Features, Grids, Inputs, Masks
from foveate.models.patches import Patches


class HYV4VL(Patches):
    """HY-V4-VL; M-RoPE, dynamic resolution, newline tokens stay, sparse attention with an indexer.

    The sparse attention picks among the kept tokens.
    """

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """With a column of newlines; None where the inputs do not say."""
        if inputs.get(f"{modality}_grid_thw") is None:
            return [None] * len(features)
        grids = super().grids(config, inputs, features, modality)
        return [None if grid is None else (grid[0], grid[1], grid[2] + 1) for grid in grids]

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """Newlines, the last of each row."""
        newline = model.base_model.vision_tower.patch_merger.image_newline
        return [(feature == newline.to(feature)).all(-1) for feature in features]
