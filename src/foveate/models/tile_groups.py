"""Tiles through an encoder in groups that fit into so many bytes."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from foveate.errors import InputError
from foveate.models.live_memory import LiveMemory

Result = TypeVar("Result")


class TileGroups:
    """Cuts tiles into groups whose activations fit into `memory`.

    A tile that is larger than all before it goes alone, which tells what it takes; so much is taken for each that is no
    larger.

    Args:
        memory: Bytes that the tensors of the encoder may take at once without gradients; None for any number.
        sizes: The size of every tile of the batch, such as its number of pixels; not read where memory is not bounded.
    """

    def __init__(self, memory: int | None, sizes: Sequence[int]) -> None:
        self.memory, self.sizes = memory, sizes
        self._largest = self._needed = 0  # the size of the largest tile until now, and its bytes

    def run(self, tiles: Sequence[int], encode: Callable[[list[int]], Result]) -> Iterator[tuple[list[int], Result]]:
        """The groups of these tiles, and what `encode` returns for each.

        Raises:
            InputError: One of the tiles does not fit.
        """
        left = list(tiles)
        while left:
            count = self._count(left)
            group, left = left[:count], left[count:]
            yield group, self._measure(group, encode)

    def _count(self, tiles: Sequence[int]) -> int:
        """How many of these tiles, from the first one on, are the next group."""
        if self.memory is None:
            return len(tiles)
        if self.sizes[tiles[0]] > self._largest:
            return 1
        fitting = tiles[: self.memory // max(self._needed, 1)]
        return next((n for n, tile in enumerate(fitting) if self.sizes[tile] > self._largest), len(fitting))

    def _measure(self, group: list[int], encode: Callable[[list[int]], Result]) -> Result:
        if self.memory is None or self.sizes[group[0]] <= self._largest:
            return encode(group)
        with LiveMemory() as live:
            result = encode(group)
        if live.peak > self.memory:
            raise InputError(
                f"max_encoder_memory={self.memory} is too little for one tile, which takes {live.peak} bytes in the "
                "encoder: raise it."
            )
        self._largest, self._needed = self.sizes[group[0]], max(self._needed, live.peak)
        return result
