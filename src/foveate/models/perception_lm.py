"""PerceptionLM: an image's tiles, or a video's frames, pooled, in one row."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foveate.models.base import Extras, Family, Inputs, mark_overview
from foveate.models.visual_input import VisualInput, tile_squares


class PerceptionLM(Family):
    """PerceptionLM; pooled tiles and frames."""

    # only `items` knows: nothing but the encoder's output tells the number of tiles and frames
    traits = replace(Family.traits, versions=">=5.20", raster=False, overview="first", modalities=("image", "video"))

    def encoder_inputs(self, model: Any, inputs: Inputs, modality: str = "image") -> dict[str, Any]:
        """Pixels; videos go through the encoder of images."""
        name = self.traits.main_inputs[modality]
        return {} if inputs.get(name) is None else {name: inputs[name]}

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The stock encoder's tiles or frames (b * t, n, d) joined to images or videos (b, t * n, d)."""
        pixels = inputs.get(self.traits.main_inputs[modality])
        if pixels is None:
            return super().encode(model, inputs, modality)
        encoded = model.base_model.get_image_features(pixels, return_dict=True)
        encoded.pooler_output = encoded.pooler_output.unflatten(0, pixels.shape[:2]).flatten(1, 2)
        return encoded

    def items(self, model: Any, inputs: Inputs, outputs: Inputs, extras: Sequence[Extras]) -> list[VisualInput]:
        """Videos are squares of frames, and so is an image of one tile."""
        items = []
        for item in super().items(model, inputs, outputs, extras):
            output = outputs[item.modality]
            frames = getattr(output, "last_hidden_state", None)  # (b * t, n, d), before pooling
            count = 0 if frames is None else len(frames) // len(output.pooler_output)
            side = math.isqrt(item.total // max(count, 1))
            if count == 1 or (count and item.modality == "video"):
                item = replace(item, grid=(count, side, side))
            tiles = tile_squares(count, side) if count * side**2 == item.total else ()
            items.append(replace(item, tiles=mark_overview(item, tiles, self.traits.overview)))
        return items
