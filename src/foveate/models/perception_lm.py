"""PerceptionLM: an image's tiles, or a video's frames, pooled, in one row."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Extras, Inputs, mark_overview
from foveate.models.kept import regroup_output
from foveate.models.overview import find_rows
from foveate.models.tile_encoder import TiledImage, TileEncoder, TileFeatures, join_images, lay_out_tiles
from foveate.models.visual_input import VisualInput, tile_squares


class PerceptionLM(TileEncoder):
    """PerceptionLM; pooled tiles and frames."""

    # only `items` knows: nothing but the encoder's output tells the number of tiles and frames
    traits = replace(
        TileEncoder.traits, versions=">=5.20", raster=False, overview="first", modalities=("image", "video")
    )

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

    def split_images(self, model: Any, inputs: Inputs) -> list[TiledImage]:
        """The overview, then tiles; all images of a batch have the same number."""
        pixels, images = inputs["pixel_values"], list[TiledImage]()
        for number, (overview, *tiles) in enumerate(pixels):
            start, rows = number * pixels.shape[1], find_rows(tiles, overview) if tiles else 1
            entries = range(start, start + pixels.shape[1])
            images.append(TiledImage(entries, start, lay_out_tiles(rows, len(tiles) // rows)))
        return images

    def encode_tiles(self, model: Any, inputs: Inputs, tiles: Sequence[int]) -> tuple[Any, list[tuple[Tensor, ...]]]:
        """Each tile goes through the stock encoder as an image of one tile."""
        pixels = inputs["pixel_values"]
        chosen = pixels.flatten(0, 1)[torch.tensor(tiles, device=pixels.device)]
        encoded = model.base_model.get_image_features(chosen[:, None], return_dict=True)
        return encoded, [(tokens,) for tokens in encoded.pooler_output]

    def join_ready(
        self, model: Any, inputs: Inputs, encoded: Any, images: Sequence[TiledImage], ready: TileFeatures
    ) -> Any:
        """The tiles of an image one after the other."""
        count = images[-1].entries.stop
        (tokens,), absent = join_images(ready, images, [encoded.pooler_output.shape[1]] * count)
        states = encoded.last_hidden_state.new_empty(count, 0)  # only their number is read
        return regroup_output(encoded, tokens, last_hidden_state=states, absent=absent)

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
