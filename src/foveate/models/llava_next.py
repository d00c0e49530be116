"""LLaVA-NeXT: an image as a whole and in tiles, whose joined rows each end in a newline token."""

import math
from dataclasses import replace
from typing import Any

from foveate.models.base import Family, Features, Grids, Inputs, Masks
from foveate.models.llava import Llava
from foveate.models.visual_input import Tile, Tiles, VisualInput, find_runs, tile_runs, tile_squares


class Tiled(Family):
    """The conventions of LLaVA-NeXT's processor, which its successors share; the budget is a whole image's."""

    # the whole, then the tiles, with newlines between
    traits = replace(Family.traits, raster=False, overview="first")

    def protected(self, model: Any, inputs: Inputs, features: Features, modality: str = "image") -> Masks:
        """Newlines, which are all one learned vector."""
        newline = model.base_model.image_newline.detach()
        return [(feature == newline.to(feature)).all(-1) for feature in features]

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """The whole in a square, then the tiles joined, without their padding, in rows that each end in a newline."""
        if item.grid is not None or item.protected is None or item.modality != "image":
            return super().find_tiles(config, inputs, item)
        (first, end), *rest = find_runs(item.protected)
        whole = end - first - (rest[0][1] - rest[0][0]) if rest else 0
        side = math.isqrt(whole)
        rows = tile_runs([(whole, end), *rest]) if whole and side**2 == whole else ()
        return (*tile_squares(1, side), *rows) if rows else ()


class LlavaNext(Tiled, Llava):
    """LLaVA-NeXT (1.6); tiles, newline tokens stay."""

    traits = replace(Tiled.traits, in_decoder=False)

    def extras(self, config: Any) -> frozenset[str]:
        """None: the tower sees tiles, not images."""
        return frozenset()


class LlavaNextVideo(LlavaNext):
    """LLaVA-NeXT-Video; tiles, newline tokens stay, pooled frames."""

    traits = replace(LlavaNext.traits, modalities=("image", "video"))

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """Older transformers (5.18) gives a video's frames apart: (t, n, d)."""
        encoded = super().encode(model, inputs, modality)
        if modality == "video":
            encoded.pooler_output = [video.flatten(0, -2) for video in encoded.pooler_output]
        return encoded

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Videos have one after pooling."""
        if modality == "image":
            return super().grids(config, inputs, features, modality)
        vision = config.vision_config
        side = vision.image_size // vision.patch_size // config.spatial_pool_stride
        return [(len(feature) // side**2, side, side) for feature in features]


class LlavaOnevision(Tiled):
    """LLaVA-OneVision; tiles, newline tokens stay, pooled frames.

    Several images in one row come without tiles, videos end in a newline.

    Large images are interpolated down to `vision_aspect_ratio`.
    """

    traits = replace(Tiled.traits, modalities=("image", "video"))

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """Beside others an image is a square alone, which it is padded to; a video's frames are pooled squares."""
        tiles, free = super().find_tiles(config, inputs, item), len(item.embeds) - 1  # one newline
        if tiles or item.protected is None or int(item.protected.sum()) > 1:
            return tiles
        vision = config.vision_config
        side = vision.image_size // vision.patch_size
        if item.modality == "image":
            return (Tile(0, side, side, side, padded=True),) if free == side**2 else ()
        pooled = math.ceil(side / 2)
        return () if free % pooled**2 else tile_squares(free // pooled**2, pooled)
