"""Groups of tiles: how many of them, by tiles whose bytes are known."""

import pytest
import torch

from foveate.errors import InputError
from foveate.models.tile_groups import TileGroups

BYTES = 4000


def encode(sizes):
    return lambda group: torch.zeros(len(group) * max(sizes[tile] for tile in group), 1000)


@pytest.mark.parametrize(
    ("memory", "sizes", "groups"),
    [
        (None, [1] * 5, [[0, 1, 2, 3, 4]]),
        (BYTES, [1] * 3, [[0], [1], [2]]),
        (2 * BYTES + 1, [1] * 6, [[0], [1, 2], [3, 4], [5]]),
        (9 * BYTES, [1] * 4, [[0], [1, 2, 3]]),
        (6 * BYTES, [2, 2, 1, 1, 3, 2, 1], [[0], [1, 2, 3], [4], [5, 6]]),  # the small ones count as the largest
    ],
)
def test_as_many_as_fit(memory, sizes, groups):
    done = list(TileGroups(memory, sizes).run(range(len(sizes)), encode(sizes)))
    assert [group for group, _ in done] == groups
    assert all(result.nbytes <= (memory or result.nbytes) for _, result in done)


def test_what_was_measured_is_known_in_a_second_run():
    groups = TileGroups(3 * BYTES, [1] * 8)
    assert [group for group, _ in groups.run([7], encode([1] * 8))] == [[7]]
    assert [group for group, _ in groups.run([0, 2, 4, 6], encode([1] * 8))] == [[0, 2, 4], [6]]


@pytest.mark.parametrize("sizes", [[4, 1], [1, 4]])
def test_a_tile_that_does_not_fit(sizes):
    with pytest.raises(InputError, match=r"^max_encoder_memory=12000 is too little for one tile, which takes 16000 "):
        list(TileGroups(3 * BYTES, sizes).run([0, 1], encode(sizes)))
