"""Images and videos of any size as one long row of flattened patches: `image_grid_thw`, `video_grid_thw`."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from foveate.models.base import Family, Inputs
from foveate.models.video_times import warn_if_text_is_inside


class Patches(Family):
    """The conventions of Qwen2-VL's processor, which many successors share."""

    traits = replace(Family.traits, modalities=("image", "video"))

    def positions(self, model: Any, inputs: Inputs, mask: Tensor) -> Tensor:
        """As stock, with a warning where stock numbers text inside a video."""
        positions = super().positions(model, inputs, mask)
        if inputs.get("video_grid_thw") is not None and positions.ndim == 3:
            types = inputs.get("mm_token_type_ids")
            types = self.token_types(model.config, inputs) if types is None else types
            is_text = mask.bool() & (types == 0)
            warn_if_text_is_inside(self.model_type, positions[1:], mask, is_text)
        return positions


class Timestamped(Patches):
    """The conventions of Qwen3-VL's processor: a video's frames stand apart, each after the words of its timestamp."""
