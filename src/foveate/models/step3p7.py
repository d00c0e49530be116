"""Step-3.7: an image's tiles, each between marks, then the whole of it; a mixture of experts with local windows."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Features, Grids, Inputs
from foveate.models.kept import regroup_output
from foveate.models.overview import find_rows
from foveate.models.tile_encoder import TiledImage, TileEncoder, TileFeatures, join_images, lay_out_tiles
from foveate.models.visual_input import Tile, Tiles, VisualInput, tile_squares


class Step3p7(TileEncoder):
    """Step-3.7; tiles, local windows, mixture of experts."""

    traits = replace(TileEncoder.traits, overview="last")

    def split_images(self, model: Any, inputs: Inputs) -> list[TiledImage]:
        """The tiles of an image, which come apart, then its overview."""
        wholes, images, start = inputs["pixel_values"], list[TiledImage](), 0
        for overview, count in zip(wholes, _count_tiles(inputs), strict=True):
            first = start - len(images)
            tiles = [] if count == 0 else inputs["pixel_values_local"][first : first + count]
            rows = find_rows(list(tiles), overview) if count else 1
            boxes = lay_out_tiles(rows, count // rows)
            images.append(TiledImage(range(start, start + count + 1), start + count, boxes))
            start += count + 1
        return images

    def measure_tiles(self, model: Any, inputs: Inputs, images: Sequence[TiledImage]) -> list[int]:
        """In pixels."""
        others = {number for image in images for number in image.others}
        names = ["pixel_values_local" if n in others else "pixel_values" for n in range(images[-1].entries.stop)]
        return [inputs[name][0].numel() for name in names]

    def encode_tiles(self, model: Any, inputs: Inputs, tiles: Sequence[int]) -> tuple[Any, list[tuple[Tensor, ...]]]:
        """Tiles and overviews go through the stock encoder as images without tiles."""
        images, tokens = self.split_images(model, inputs), dict[int, Tensor]()
        overviews = [image.overview for image in images]
        others = [number for image in images for number in image.others]
        for numbers, name in ((overviews, "pixel_values"), (others, "pixel_values_local")):
            own = [number for number in tiles if number in numbers]
            if own:
                places = torch.tensor([numbers.index(number) for number in own], device=inputs[name].device)
                encoded = model.base_model.get_image_features(inputs[name][places], return_dict=True)
                tokens.update(zip(own, encoded.pooler_output, strict=True))
        return encoded, [(tokens[number],) for number in tiles]

    def join_ready(
        self, model: Any, inputs: Inputs, encoded: Any, images: Sequence[TiledImage], ready: TileFeatures
    ) -> Any:
        """The tiles of an image, then its overview."""
        config, overviews = model.config, {image.overview for image in images}
        whole = token_side(config, config.vision_config.image_size) ** 2
        is_split = len(overviews) < images[-1].entries.stop
        tile = token_side(config, inputs["pixel_values_local"].shape[-1]) ** 2 if is_split else 0
        sizes = [whole if number in overviews else tile for number in range(images[-1].entries.stop)]
        (tokens,), absent = join_images(ready, images, sizes)
        return regroup_output(encoded, tokens, absent=absent)

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """A square for an image without tiles."""
        side = token_side(config, config.vision_config.image_size)
        return [(1, side, side) if len(feature) == side**2 else None for feature in features]

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """Squares: the tiles, whose side the processor sets, then the image, whose side the configuration does."""
        counts, side = inputs.get("num_local_patches"), token_side(config, config.vision_config.image_size)
        count = 1 if counts is None or item.index >= len(counts) else int(counts[item.index])
        before = item.total - side**2
        tile = math.isqrt(before // max(count, 1))
        overview = Tile(before, side, side, side)
        return (*tile_squares(count, tile), overview) if count * tile**2 == before else ()


def token_side(config: Any, pixels: int) -> int:
    """Tokens along the side of a square image: patches, halved twice by strided convolutions."""
    patches = int(pixels // config.vision_config.patch_size)
    return -(-patches // 4)


def _count_tiles(inputs: Inputs) -> list[int]:
    """How many tiles each image has beside its overview."""
    counts = inputs.get("num_local_patches")
    return [0] * len(inputs["pixel_values"]) if counts is None else [int(count) for count in counts]
