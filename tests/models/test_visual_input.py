"""How tokens lie over an image: every tile's tokens against a plain drawing of the rows."""

import dataclasses
from itertools import pairwise, product

import pytest
import torch

from foveate.models.visual_input import (
    Tile,
    find_runs,
    make_visual_input,
    mark_absent,
    tile_frames,
    tile_rows,
    tile_runs,
    tile_squares,
)


def marks(text):
    """Protected tokens of a row of characters: "|" is one."""
    return torch.tensor([character == "|" for character in text], dtype=torch.bool)


def test_a_tiles_tokens_are_read_row_by_row():
    assert Tile(5, 2, 3, 4).tokens() == [5, 6, 7, 9, 10, 11]
    assert Tile(0, 1, 2, 2).tokens() == [0, 1]
    assert Tile(2, 3, 1, 2).tokens() == [2, 4, 6]
    assert (Tile(0, 1, 1, 1).padded, Tile(0, 1, 1, 1).overview) == (False, False)


@pytest.mark.parametrize("grid", list(product((1, 2, 3), (1, 2), (1, 2, 4))))
def test_every_token_of_a_grid_lies_in_the_tile_of_its_frame(grid):
    t, rows, width = grid
    tiles = tile_frames(grid)
    assert [tile.tokens() for tile in tiles] == torch.arange(t * rows * width).view(t, -1).tolist()
    assert all((tile.rows, tile.columns, tile.step) == (rows, width, width) for tile in tiles)
    ends = torch.zeros(grid, dtype=torch.bool)
    assert tile_frames(grid, ends.flatten()) == tiles
    ends[..., -1] = True
    cells = torch.arange(t * rows * width).view(grid)
    inner = cells if width == 1 else cells[..., :-1]  # a single column is no row's end
    assert [tile.tokens() for tile in tile_frames(grid, ends.flatten())] == inner.reshape(t, -1).tolist()
    ends[-1, -1, -1] = False  # one row that does not end in a protected token
    assert tile_frames(grid, ends.flatten()) == tiles


def test_protected_tokens_elsewhere_do_not_narrow_frames():
    first = torch.zeros(2, 2, 3, dtype=torch.bool)
    first[..., 0] = True
    assert tile_frames((2, 2, 3), first.flatten()) == tile_frames((2, 2, 3))


def test_squares_lie_one_after_the_other():
    assert [tile.tokens() for tile in tile_squares(3, 2)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert tile_squares(2, 3) == (Tile(0, 3, 3, 3), Tile(9, 3, 3, 3))
    assert tile_squares(0, 3) == ()


def test_runs_are_those_of_a_plain_loop():
    for pattern in product((False, True), repeat=7):
        runs, start = [], None
        for n, is_protected in enumerate([*pattern, True]):
            if is_protected:
                runs += [(start, n)] if start is not None else []
                start = None
            elif start is None:
                start = n
        assert find_runs(torch.tensor(pattern)) == runs


def test_rows_between_protected_tokens_are_one_tile_if_they_are_alike():
    for pattern in product((False, True), repeat=8):
        protected = torch.tensor(pattern)
        free, runs = (~protected).nonzero().flatten().tolist(), find_runs(protected)
        tiles = tile_rows(protected)
        alike = len({end - start for start, end in runs}) == 1 and len({b[0] - a[0] for a, b in pairwise(runs)}) <= 1
        assert len(tiles) == alike
        if alike:
            assert (tiles[0].rows, tiles[0].tokens()) == (len(runs), free)
    assert tile_rows(marks("abc|def|ghi|")) == (Tile(0, 3, 3, 4),)
    assert tile_rows(marks("|ab|cd||")) == (Tile(1, 2, 2, 3),)
    assert tile_rows(marks("abcd")) == (Tile(0, 1, 4, 4),)
    assert tile_rows(None) == ()
    assert tile_runs([]) == ()


def test_the_selectable_tokens_are_those_that_are_not_protected():
    item = make_visual_input("image", 1, torch.arange(3, 8), 3, torch.ones(5, 4))
    protected = marks("ab|c|")
    assert item.selectable.tolist() == [True] * 5
    guarded = dataclasses.replace(item, protected=protected)
    assert guarded.selectable.tolist() == [True, True, False, True, False]
    assert protected.tolist() == marks("ab|c|").tolist()
    with torch.device("meta"):  # what is not made on the device of the tokens has no values
        assert item.selectable.tolist() == [True] * 5
        assert make_visual_input("image", 1, item.columns, 3, item.embeds).kept.tolist() == [0, 1, 2, 3, 4]


def test_a_fresh_visual_input_keeps_every_token():
    columns, embeds = torch.tensor([2, 3, 5]), torch.ones(3, 4)
    item = make_visual_input("video", 1, columns, 2, embeds)
    assert (item.modality, item.row, item.first, item.total, item.index) == ("video", 1, 2, 3, 0)
    assert item.columns is columns
    assert item.embeds is embeds
    assert item.kept.tolist() == [0, 1, 2]
    assert (item.grid, item.protected, item.tiles, item.is_part) == (None, None, (), False)
    assert (item.merge_weights, item.relevance, item.core, item.extras) == (None, None, None, {})
    across = make_visual_input("image", 0, torch.arange(0), 4, embeds)  # tokens without placeholders
    assert (across.total, across.kept.tolist()) == (3, [0, 1, 2])


def test_a_report_holds_no_tokens_of_the_model():
    embeds = torch.ones(3, 4, requires_grad=True) * 2
    weights, relevance, core = torch.eye(3), torch.rand(3), torch.ones(3, dtype=torch.bool)
    item = dataclasses.replace(
        make_visual_input("image", 0, torch.arange(3), 0, embeds),
        extras={"keys": torch.ones(3, 2)}, merge_weights=weights, relevance=relevance, core=core, index=7,
    )  # fmt: skip
    bare = item.without_embeds()
    assert bare.embeds.shape == (0, 4)
    assert not bare.embeds.requires_grad
    assert bare.embeds.untyped_storage().nbytes() == 0  # a view would keep all of them in memory
    assert (bare.extras, bare.merge_weights) == ({}, None)
    assert (bare.relevance, bare.core) == (relevance, core)
    assert (bare.total, bare.kept.tolist(), bare.index) == (3, [0, 1, 2], 7)
    assert item.embeds is embeds


def test_tokens_that_are_absent_have_no_rows():
    absent, embeds = marks("|..||.|."), torch.arange(8.0)[:, None]
    item = make_visual_input("image", 0, torch.arange(8), 0, embeds[~absent], marks("...|"), absent)
    assert (item.total, item.kept.tolist(), item.present.tolist()) == (8, [1, 2, 5, 7], [1, 2, 5, 7])
    assert item.protected.nonzero().squeeze(1).tolist() == item.always_kept.nonzero().squeeze(1).tolist() == [7]
    assert item.selectable.nonzero().squeeze(1).tolist() == [1, 2, 5]
    for tokens in ([5], [7, 1], [1, 2, 5, 7]):
        assert item.embeds[item.find_rows(torch.tensor(tokens))].squeeze(1).tolist() == tokens
    whole = make_visual_input("image", 0, torch.arange(8), 0, embeds)
    assert whole.find_rows(torch.tensor([7, 1])).tolist() == [7, 1]
    assert whole.present.tolist() == list(range(8))


def test_absent_tokens_are_read_from_embeddings_that_are_none():
    embeds = torch.arange(8.0)[:, None].masked_fill(marks("|..||.|.")[:, None], torch.nan)
    item = mark_absent(make_visual_input("image", 0, torch.arange(8), 0, embeds))
    assert item.absent.tolist() == marks("|..||.|.").tolist()
    assert item.embeds.squeeze(1).tolist() == item.kept.tolist() == [1, 2, 5, 7]
    assert mark_absent(item) is item
