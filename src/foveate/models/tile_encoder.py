"""Families whose encoder sees every tile by itself: some tiles of a batch go through it, the others are absent."""

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

    def measure_tiles(self, model: Any, inputs: Inputs, images: Sequence[TiledImage]) -> list[int]:
        """The sizes of all tiles in any one unit: what the encoder needs for a tile grows with it."""
        return [1] * images[-1].entries.stop

    def encode_tiles(self, model: Any, inputs: Inputs, tiles: Sequence[int]) -> tuple[Any, list[tuple[Tensor, ...]]]:
        """The stock encoder on these tiles alone: its output, and the tokens (n, d) of each tile at every level."""
        raise NotImplementedError

    def join_ready(
        self, model: Any, inputs: Inputs, encoded: Any, images: Sequence[TiledImage], ready: TileFeatures
    ) -> Any:
        """What `encode` returns for these images, with rows for the tokens of the tiles that are `ready`, no others.

        `encoded` is any output of `encode_tiles`. `absent` of the result says which tokens the others are.
        """
        raise NotImplementedError


def lay_out_tiles(rows: int, columns: int) -> tuple[Box, ...]:
    """The boxes of equal tiles over the whole image, row by row."""
    return tuple(
        (row / rows, column / columns, (row + 1) / rows, (column + 1) / columns)
        for row in range(rows)
        for column in range(columns)
    )


def join_images(
    ready: Mapping[int, tuple[Tensor, ...]], images: Sequence[TiledImage], sizes: Sequence[int]
) -> tuple[list[list[Tensor]], list[Tensor | None]]:
    """The tokens (p, d) of every image's ready tiles at every level, and which of its tokens (n,) are absent.

    `sizes` has the number of tokens of every tile. None where no token of an image is absent.
    """
    some = next(iter(ready.values()))
    entries = [[number for number in image.entries if number in ready] for image in images]
    levels = [[torch.cat([ready[n][level] for n in own]) for own in entries] for level in range(len(some))]
    masks = [torch.cat([torch.full((sizes[n],), n not in ready) for n in image.entries]) for image in images]
    return levels, [mask.to(some[0].device) if bool(mask.any()) else None for mask in masks]


@contextmanager
def narrow_tower(tower: Any, projectors: Sequence[Any], tiles: Sequence[int], count: int) -> Iterator[list[Tensor]]:
    """Let only `tiles` of the `count` that are handed to `tower` through it and through its `projectors`.

    Yields:
        What leaves each projector: the tokens (tiles, n, d) of a level. The model itself gets tensors of the shape that
        all tiles have, on the device "meta": where it puts them costs no memory. Calls of other threads are left alone.
    """
    owner, levels = threading.get_ident(), [torch.empty(0)] * len(projectors)

    def narrow(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if threading.get_ident() != owner:
            return None
        if len(args[0]) != count:
            raise InputError(f"pixel_values hold {len(args[0])} tiles and image_sizes stand for {count}: pass both.")
        return (args[0][torch.tensor(tiles, device=args[0].device)], *args[1:])

    def take(level: int, output: Tensor) -> Tensor | None:
        if threading.get_ident() != owner:
            return None
        levels[level] = output
        return torch.empty((count, *output.shape[1:]), dtype=output.dtype, device="meta")

    handles = [tower.register_forward_pre_hook(narrow)]
    for level, projector in enumerate(projectors):
        handles.append(projector.register_forward_hook(lambda *call, level=level: take(level, call[2])))
    try:
        yield levels
    finally:
        for handle in handles:
            handle.remove()
