"""Families whose encoder sees every tile by itself: some tiles of a batch go through it, the others are NaN."""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError
from foveate.models.base import Family, Inputs

Box = tuple[float, float, float, float]  # top, left, bottom, right, in shares of the image
TileFeatures = dict[int, tuple[Tensor, ...]]  # by the number of a tile: its tokens (n, d) at every level


@dataclass(frozen=True)
class TiledImage:
    """The tiles of one image as the encoder gets them.

    Args:
        entries: Their numbers among all tiles of the batch; the overview is one of them.
        overview: The number of the overview; of the only tile where there is one.
        boxes: Where each of the other tiles lies on the image, in the order of their numbers.
    """

    entries: range
    overview: int
    boxes: tuple[Box, ...] = ()

    @property
    def others(self) -> list[int]:
        """The numbers of the tiles beside the overview."""
        return [number for number in self.entries if number != self.overview]


class TileEncoder(Family):
    """An encoder that can be called with some of the tiles of a batch, and gives for them what it gives among all.

    A tile has a number: its place among all tiles of the batch, in the encoder's order.
    """

    def split_images(self, model: Any, inputs: Inputs) -> list[TiledImage]:
        """The tiles of every image of the batch. Raises `InputError` where nothing tells them."""
        raise NotImplementedError

    def encode_tiles(self, model: Any, inputs: Inputs, tiles: Sequence[int], ready: TileFeatures) -> Any:
        """`encode` for images, where only these tiles go through the encoder.

        The tokens of tiles that are `ready` are taken from there, those of `tiles` are put there, and the tokens of all
        others are NaN.
        """
        raise NotImplementedError


def lay_out_tiles(rows: int, columns: int) -> tuple[Box, ...]:
    """The boxes of equal tiles over the whole image, row by row."""
    return tuple(
        (row / rows, column / columns, (row + 1) / rows, (column + 1) / columns)
        for row in range(rows)
        for column in range(columns)
    )


def fill_missing(ready: Mapping[int, tuple[Tensor, ...]], sizes: Sequence[int]) -> list[list[Tensor]]:
    """The tokens of all tiles at every level: `sizes` rows of NaN for each tile that is not ready."""
    levels = next(iter(ready.values()))
    return [
        [
            ready[number][level] if number in ready else some.new_full((size, some.shape[-1]), math.nan)
            for number, size in enumerate(sizes)
        ]
        for level, some in enumerate(levels)
    ]


@contextmanager
def narrow_tower(
    tower: Any, projectors: Sequence[Any], tiles: Sequence[int], count: int, ready: TileFeatures
) -> Iterator[None]:
    """Let only `tiles` of the `count` that are handed to `tower` through it and through its `projectors`.

    What leaves a projector is a level; it has all tiles again: those that are ready and, of the others, NaN. Calls of
    other threads are left alone.
    """
    owner, levels = threading.get_ident(), [torch.empty(0)] * len(projectors)

    def narrow(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if threading.get_ident() != owner:
            return None
        if len(args[0]) != count:
            raise InputError(f"pixel_values hold {len(args[0])} tiles and image_sizes stand for {count}: pass both.")
        return (args[0][torch.tensor(tiles, device=args[0].device)], *args[1:])

    def widen(level: int, output: Tensor) -> Tensor | None:
        if threading.get_ident() != owner:
            return None
        levels[level] = output
        own = {number: (parts[level],) for number, parts in ready.items()}
        own |= {number: (part,) for number, part in zip(tiles, output, strict=True)}
        return torch.stack(fill_missing(own, [output.shape[1]] * count)[0])

    handles = [tower.register_forward_pre_hook(narrow)]
    for level, projector in enumerate(projectors):
        handles.append(projector.register_forward_hook(lambda *call, level=level: widen(level, call[2])))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    ready.update({number: tuple(level[n] for level in levels) for n, number in enumerate(tiles)})
