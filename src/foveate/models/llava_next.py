"""LLaVA-NeXT: an image as a whole and in tiles, whose joined rows each end in a newline token."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Features, Grids, Inputs, Masks
from foveate.models.kept import regroup_output
from foveate.models.llava import Llava
from foveate.models.tile_encoder import Box, TiledImage, TileEncoder, TileFeatures, narrow_tower
from foveate.models.visual_input import Tile, Tiles, VisualInput, find_runs, tile_runs, tile_squares

CHANNELS = 256  # laid out at a time: the stock layout makes several copies of all tiles


class Tiled(TileEncoder):
    """The conventions of LLaVA-NeXT's processor, which its successors share; the budget is a whole image's."""

    # the whole, then the tiles, with newlines between
    traits = replace(Family.traits, raster=False, overview="first")

    def split_images(self, model: Any, inputs: Inputs) -> list[TiledImage]:
        """The overview, then tiles of an image that is scaled and padded to one of the configured sizes."""
        from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

        config, side = model.config, model.config.vision_config.image_size
        images: list[TiledImage] = []
        for size, is_split in zip(inputs["image_sizes"].tolist(), self.find_split(inputs), strict=True):
            start = images[-1].entries.stop if images else 0
            layout = get_anyres_image_grid_shape(size, config.image_grid_pinpoints, side) if is_split else (0, 0)
            entries = range(start, start + 1 + layout[0] * layout[1])
            images.append(TiledImage(entries, start, place_tiles(size, layout) if is_split else ()))
        return images

    def find_split(self, inputs: Inputs) -> list[bool]:
        """Whether each image comes in tiles."""
        return [True] * len(inputs["image_sizes"])

    def projectors(self, core: Any) -> list[Any]:
        """The modules that every tile's features leave before tiles are joined."""
        return [core.multi_modal_projector]

    def encode_tiles(self, model: Any, inputs: Inputs, tiles: Sequence[int]) -> tuple[Any, list[tuple[Tensor, ...]]]:
        """Only these tiles go through the stock encoder's tower and projectors."""
        core, count = model.base_model, self.split_images(model, inputs)[-1].entries.stop
        with narrow_tower(core.vision_tower, self.projectors(core), tiles, count) as levels:
            encoded = self.encode(model, inputs)
        return encoded, list(zip(*levels, strict=True))

    def join_ready(
        self, model: Any, inputs: Inputs, encoded: Any, images: Sequence[TiledImage], ready: TileFeatures
    ) -> Any:
        """The stock model lays out some channels of all tiles at a time, with NaN for those that are not ready."""
        count = len(next(iter(ready.values())))
        levels = [self._lay_out(model, inputs, images, ready, level) for level in range(count)]
        return self.write_levels(encoded, [tokens for tokens, _ in levels], levels[0][1])

    def write_levels(self, encoded: Any, levels: Sequence[list[Tensor]], absent: Masks) -> Any:
        """An output as `encoded`, for the images of `levels`."""
        return regroup_output(encoded, levels[0], absent=absent)

    def _lay_out(
        self, model: Any, inputs: Inputs, images: Sequence[TiledImage], ready: TileFeatures, level: int
    ) -> tuple[list[Tensor], Masks]:
        """The tokens (p, d) of every image's ready tiles, with newlines, and which of its tokens (n,) are absent."""
        core, own = model.base_model, self.encoder_inputs(model, inputs)
        names = inspect.signature(core.pack_image_features).parameters  # each family has a setting of its own
        settings = {name: own.get(name, getattr(model.config, name)) for name in names if name.startswith("vision_")}
        tiles = {number: tokens[level] for number, tokens in ready.items()}
        some, parts, absent = next(iter(tiles.values())), [list[Tensor]() for _ in images], list[Tensor]()
        for first in range(0, some.shape[1], CHANNELS):
            channels = slice(first, first + CHANNELS)
            newline = core.image_newline[channels]
            gap = some.new_full((len(some), len(newline)), math.nan)
            rows = [[tiles[n][:, channels] if n in tiles else gap for n in image.entries] for image in images]
            laid = core.pack_image_features(
                [torch.stack(entries) for entries in rows], inputs["image_sizes"], image_newline=newline, **settings
            )
            laid = laid[0] if isinstance(laid, tuple) else laid
            absent = absent or [tokens.detach()[:, 0].isnan() for tokens in laid]
            for part, tokens, missing in zip(parts, laid, absent, strict=True):
                part.append(tokens[~missing])
        masks = [missing if bool(missing.any()) else None for missing in absent]
        return [torch.cat(part, dim=1) for part in parts], masks

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


def place_tiles(size: Sequence[int], layout: tuple[int, int]) -> tuple[Box, ...]:
    """Where tiles in (rows, columns) lie on an image of this (height, width), which is centred on them."""
    rows, columns = layout
    scale = min(rows / size[0], columns / size[1])  # tiles a pixel
    (top, height), (left, width) = (
        ((count - scale * length) / 2, scale * length) for count, length in zip(layout, size, strict=True)
    )
    down, across = (
        [min(max((edge - before) / length, 0.0), 1.0) for edge in range(count + 1)]
        for count, before, length in ((rows, top, height), (columns, left, width))
    )
    return tuple((down[r], across[c], down[r + 1], across[c + 1]) for r in range(rows) for c in range(columns))


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

    def find_split(self, inputs: Inputs) -> list[bool]:
        """An image alone in its row, where the inputs say how many each row has."""
        counts = inputs.get("batch_num_images")
        if counts is None:
            return super().find_split(inputs)
        return [count == 1 for count in [int(count) for count in counts] for _ in range(count)]

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """Beside others an image is a square alone, which it is padded to; a video's frames are pooled squares."""
        tiles, free = super().find_tiles(config, inputs, item), item.total - 1  # one newline
        if tiles or item.protected is None or int(item.protected.sum()) > 1:
            return tiles
        vision = config.vision_config
        side = vision.image_size // vision.patch_size
        if item.modality == "image":
            return (Tile(0, side, side, side, padded=True),) if free == side**2 else ()
        pooled = math.ceil(side / 2)
        return () if free % pooled**2 else tile_squares(free // pooled**2, pooled)
