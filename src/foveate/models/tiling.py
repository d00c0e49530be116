"""Families whose encoder returns every tile of an image as an entry of its own: `encode` joins those of one image."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.base import Extras, Features, Grids, Inputs, Masks
from foveate.models.kept import is_regrouped, regroup_output
from foveate.models.overview import find_rows
from foveate.models.placeholders import match_placeholders
from foveate.models.prompt_rows import PromptRow, Starts, read_rows
from foveate.models.tile_encoder import TiledImage, TileEncoder, TileFeatures, join_images, lay_out_tiles
from foveate.models.visual_input import Tile, Tiles, VisualInput

Shape = tuple[int, int]  # rows and columns of tokens


class TiledFamily(TileEncoder):
    """The tiles of one image are one visual input, which has all of their tokens in the order of the prompt.

    Which tiles these are is read from the prompt: a run of placeholders is a tile, or several, and `find_starts` says
    with which runs images start. Several tiles are no raster: their grid is None. Where nothing tells the images apart
    every tile is a visual input, marked `is_part`.
    """

    joins_runs: ClassVar[bool] = False
    """Whether the tiles that stand in one run of placeholders are one image; else such a run tells nothing."""

    def find_starts(self, config: Any, inputs: Inputs, row: PromptRow) -> Starts:
        """For every run of placeholders in a row of several whether an image starts with it; None if unknown."""
        return [True] * len(row.runs)

    def find_sizes(self, config: Any, inputs: Inputs, sizes: Sequence[int], modality: str) -> list[int] | None:
        """Tokens of every image; None where nothing tells. `sizes` are those of the encoder's entries."""
        images: list[int] = []
        total, ends = 0, set()
        for row in read_rows(inputs["input_ids"], self.placeholders(config, inputs, modality)):
            starts = [True] if len(row.runs) == 1 else self.find_starts(config, inputs, row)
            if starts is None:
                return None
            for is_start, (first, end) in zip(starts, row.runs, strict=True):
                images += [0] if is_start else []
                images[-1] += end - first
                total += end - first
                ends.add(total)
        return images if self.joins_runs or ends.issuperset(accumulate(sizes)) else None

    def encode(self, model: Any, inputs: Inputs, modality: str = "image") -> Any:
        """The stock encoder's output, with one entry for each image where the prompt tells the images apart."""
        return self.join_tiles(model.config, inputs, super().encode(model, inputs, modality), modality)

    def join_tiles(self, config: Any, inputs: Inputs, encoded: Any, modality: str) -> Any:
        """`encoded` with one entry for each image, or as it is where nothing tells the images apart."""
        if "input_ids" not in inputs:
            return encoded
        sizes = [len(tokens) for tokens in self.features(encoded, modality)]
        images = self.find_sizes(config, inputs, sizes, modality)
        if images is None or sum(images) != sum(sizes):
            return encoded  # where the sums differ, `items` says in which row
        return self.regroup(encoded, images)

    def regroup(self, encoded: Any, sizes: Sequence[int]) -> Any:
        """The same output, with an entry for each of these sizes."""
        return regroup_output(encoded, split_tokens(self.features(encoded), sizes))

    # -- some of the tiles ------------------------------------------------------------------------------------------

    def split_images(self, model: Any, inputs: Inputs) -> list[TiledImage]:
        """As the prompt tells, and the pixels: they tell in how many rows the tiles lie."""
        pixels, sizes = self.tile_pixels(model, inputs), self.count_tokens(model.config, inputs)
        images = self.find_sizes(model.config, inputs, sizes, "image")
        if images is None:
            raise InputError(
                "Nothing in these inputs tells which tiles are one image: leave encode and max_encoder_memory out."
            )
        if len(sizes) != len(pixels) or not {0, *accumulate(sizes)}.issuperset(accumulate(images)):
            raise InputError(
                f"The encoder gets {len(pixels)} tiles, and the prompt has placeholders of {len(sizes)}: let the "
                "model's own processor make both from the same images."
            )
        ends = [list(accumulate(sizes)).index(total) + 1 for total in accumulate(images)]
        return [self._split_image(pixels, range(start, end)) for start, end in pairwise([0, *ends])]

    def _split_image(self, pixels: Sequence[Tensor], entries: range) -> TiledImage:
        overview = entries[0] if self.overview == "first" else entries[-1]
        others = [pixels[number] for number in entries if number != overview]
        rows = find_rows(others, pixels[overview]) if others else 1
        return TiledImage(entries, overview, lay_out_tiles(rows, len(others) // rows))

    @property
    def overview(self) -> str:
        """Where the overview stands among the tiles that the encoder gets."""
        return self.traits.overview

    def count_tokens(self, config: Any, inputs: Inputs) -> list[int]:
        """Tokens of every tile, by the prompt or by the inputs that say shapes."""
        places, size = self.placeholders(config, inputs), self.tile_size(config)
        shapes = self.tile_shapes(config, inputs, "image")
        if shapes is not None:
            return [rows * columns for rows, columns in shapes]
        if size is not None:
            return [size] * (int(places.sum()) // size)
        return [end - start for row in read_rows(inputs["input_ids"], places) for start, end in row.runs]

    def tile_pixels(self, model: Any, inputs: Inputs) -> Sequence[Tensor]:
        """The pixels (c, h, w) of every tile; or channels of its patches, in their places."""
        pixels: Sequence[Tensor] = inputs["pixel_values"]
        return pixels

    def take_tiles(self, model: Any, inputs: Inputs, tiles: Tensor) -> dict[str, Any]:
        """The encoder's inputs for these tiles alone."""
        own, count = self.encoder_inputs(model, inputs), len(inputs["pixel_values"])
        return {
            name: value[tiles.to(value.device)] if isinstance(value, Tensor) and len(value) == count else value
            for name, value in own.items()
        }

    def measure_tiles(self, model: Any, inputs: Inputs, images: Sequence[TiledImage]) -> list[int]:
        """In pixels."""
        return [pixels.numel() for pixels in self.tile_pixels(model, inputs)]

    def encode_tiles(self, model: Any, inputs: Inputs, tiles: Sequence[int]) -> tuple[Any, list[tuple[Tensor, ...]]]:
        """The tiles are taken from the encoder's inputs."""
        encoded = self.encode(model, self.take_tiles(model, inputs, torch.tensor(tiles)))
        return encoded, list(zip(*self.read_levels(encoded), strict=True))

    def join_ready(
        self, model: Any, inputs: Inputs, encoded: Any, images: Sequence[TiledImage], ready: TileFeatures
    ) -> Any:
        """The tiles of an image one after the other."""
        levels, absent = join_images(ready, images, self.count_tokens(model.config, inputs))
        return self.write_levels(encoded, levels, absent)

    def read_levels(self, encoded: Any) -> list[list[Tensor]]:
        """What the encoder made of every tile: its tokens, and more where the model reads more of each."""
        return [self.features(encoded)]

    def write_levels(self, encoded: Any, levels: Sequence[list[Tensor]], absent: Masks) -> Any:
        """An output as `encoded`, for the images of `levels`."""
        return regroup_output(encoded, levels[0], absent=absent)

    # -- the sequence -----------------------------------------------------------------------------------------------

    def items(self, model: Any, inputs: Inputs, outputs: Inputs, extras: Sequence[Extras]) -> list[VisualInput]:
        """With `is_part` where entries of the encoder's output may be tiles of one image."""
        items = super().items(model, inputs, outputs, extras)
        apart = set()
        for modality, output in outputs.items():
            sizes = [len(tokens) for tokens in self.features(output, modality)]
            if not is_regrouped(output) and self.find_sizes(model.config, inputs, sizes, modality) != sizes:
                apart.add(modality)
        return [self._as_part(item) if item.modality in apart else item for item in items]

    def _as_part(self, item: VisualInput) -> VisualInput:
        """Nothing tells whether it is an overview either."""
        return replace(item, is_part=True, tiles=tuple(replace(tile, overview=False) for tile in item.tiles))

    def tile_shapes(self, config: Any, inputs: Inputs, modality: str) -> list[Shape] | None:
        """The shape of every tile of the batch, where the inputs say it; None where tiles are squares."""
        return None

    def tile_size(self, config: Any) -> int | None:
        """Tokens of a tile where all have the same number; None where each stands in a run of its own."""
        return None

    def grids(self, config: Any, inputs: Inputs, features: Features, modality: str = "image") -> Grids:
        """Of images of one tile."""
        sizes = [len(tokens) for tokens in features]
        if not self.traits.raster or "input_ids" not in inputs:
            return [None] * len(sizes)
        spans = match_placeholders(self.placeholders(config, inputs, modality), sizes, modality)
        before = accumulate(sizes, initial=0)
        shapes = [
            self._shapes(config, inputs, span.columns, start, modality)
            for span, start in zip(spans, before, strict=False)
        ]
        return [(1, *own[0]) if len(own) == 1 else None for own in shapes]

    def find_tiles(self, config: Any, inputs: Inputs, item: VisualInput) -> Tiles:
        """One tile after the other."""
        if not self.traits.raster:
            return ()
        places = self.placeholders(config, inputs, item.modality)
        before = int(places[: item.row].sum() + places[item.row, : item.first].sum())
        shapes = self._shapes(config, inputs, item.columns, before, item.modality)
        starts = accumulate((rows * columns for rows, columns in shapes), initial=0)
        return tuple(Tile(start, *shape, shape[1]) for start, shape in zip(starts, shapes, strict=False))

    def _shapes(self, config: Any, inputs: Inputs, columns: Tensor, before: int, modality: str) -> list[Shape]:
        """Shapes of the tiles whose placeholders are `columns`, after `before` others; none where they do not fit."""
        shapes = self.tile_shapes(config, inputs, modality)
        if shapes is None:
            size = self.tile_size(config)
            ends = (columns.diff() > 1).nonzero().squeeze(1).add(1).tolist()
            runs = [end - start for start, end in pairwise([0, *ends, len(columns)])]
            lengths = [size] * (len(columns) // size) if size else runs
            own = [(math.isqrt(length), math.isqrt(length)) for length in lengths]
        else:
            starts = list(accumulate((rows * width for rows, width in shapes), initial=0))
            own = [shape for shape, start in zip(shapes, starts, strict=False) if 0 <= start - before < len(columns)]
        return own if sum(rows * width for rows, width in own) == len(columns) else []


def split_tokens(tokens: Sequence[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """The same tokens (n, d), cut into entries of these sizes."""
    return list(torch.cat(list(tokens)).split(list(sizes)))
