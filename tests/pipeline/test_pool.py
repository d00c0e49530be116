"""Averages for a first look."""

from dataclasses import replace

import pytest
import torch

from foveate.method.grid import Grid
from foveate.method.tokens import VisualTokens
from foveate.models.kept import keep_values
from foveate.models.visual_input import Tile, make_visual_input
from foveate.pipeline.pool import pool_tokens


def make_item(total, kept, **more):
    embeds = torch.randn(total, 4, generator=torch.Generator().manual_seed(0))
    item = make_visual_input("image", 0, torch.arange(total), 0, embeds)
    return replace(item, kept=torch.tensor(kept), **more)


def pool(item):
    """The groups of tokens that are averaged, by the kept token that they lie nearest to."""
    into = pool_tokens(item).pooled_into.tolist()
    return {k: [n for n, place in enumerate(into) if place == at] for at, k in enumerate(item.kept.tolist())}


def test_every_token_goes_to_the_nearest():
    """. . a . . .     Ties go to the token that comes first.
    . . . . . b"""
    assert pool(make_item(12, [2, 11], grid=(1, 2, 6))) == {2: [0, 1, 2, 3, 6, 7, 8, 9], 11: [4, 5, 10, 11]}
    assert pool(make_item(12, [2, 11], grid=(2, 1, 6))) == {2: [0, 1, 2, 3, 6, 7, 8, 9], 11: [4, 5, 10, 11]}
    assert pool(make_item(5, [1, 4])) == {1: [0, 1, 2], 4: [3, 4]}


@pytest.mark.parametrize("grid", [(1, 24, 24), (1, 11, 14), (4, 5, 6), (1, 1, 30)])
def test_the_values_are_means_of_nearby_tokens(grid):
    total = grid[0] * grid[1] * grid[2]
    item = make_item(total, [0], grid=grid)
    kept = Grid().select(VisualTokens(item.embeds, item.embeds[:0], grid), total // 4)
    item = replace(item, kept=kept)
    groups = pool(item)
    assert sorted(n for group in groups.values() for n in group) == [*range(total)]
    places = torch.cartesian_prod(*(torch.arange(size).double() for size in grid))
    for owner, group in groups.items():
        assert owner in group
        for n in group:
            assert (places[n] - places[owner]).norm() == (places[n] - places[kept]).norm(dim=1).min()
    values = keep_values(item.embeds, pool_tokens(item))
    torch.testing.assert_close(values, torch.stack([item.embeds[group].mean(0) for group in groups.values()]))
    half = keep_values(item.embeds.bfloat16(), pool_tokens(item))
    torch.testing.assert_close(half, keep_values(item.embeds.bfloat16().float(), pool_tokens(item)).bfloat16())


def test_protected_tokens_keep_their_own_values():
    ends = torch.tensor([False, False, True, False, False, True])
    item = make_item(6, [0, 2, 4, 5], grid=(1, 2, 3), protected=ends)
    assert pool(item) == {0: [0, 1, 3], 2: [2], 4: [4], 5: [5]}
    every = torch.ones(6, dtype=torch.bool)
    whole = make_item(6, [*range(6)], protected=every)
    assert pool(whole) == {n: [n] for n in range(6)}


def test_nothing_is_averaged_over_two_tiles():
    tiles = Tile(0, 2, 2, 3), Tile(6, 2, 3, 3)
    ends = torch.zeros(12, dtype=torch.bool)
    ends[[2, 5]] = True
    item = make_item(12, [2, 3, 5, 6], tiles=tiles, protected=ends)
    assert pool(item) == {2: [2], 3: [0, 1, 3, 4], 5: [5], 6: [*range(6, 12)]}


def test_pieces_change_nothing(monkeypatch):
    item = make_item(96, [*range(3, 96, 5)], grid=(2, 6, 8))
    whole = pool(item)
    monkeypatch.setattr("foveate.pipeline.pool.BLOCK", 64)
    assert pool(item) == whole


def test_rows_and_columns_count_within_a_tile():
    """a . . .    The tile has no grid beside it. In one row token 4 would be nearer to a than to b.
    . . . .
    b . . ."""
    item = make_item(12, [0, 8], tiles=(Tile(0, 3, 4, 4),))
    assert pool(item) == {0: [*range(8)], 8: [8, 9, 10, 11]}
    corner = make_item(12, [3, 8], tiles=(Tile(0, 3, 4, 4),))
    assert pool(corner) == {3: [1, 2, 3, 6, 7, 11], 8: [0, 4, 5, 8, 9, 10]}
