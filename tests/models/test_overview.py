"""Whether an image shows others together, by their pixels alone."""

import pytest
import torch

from foveate.models.overview import is_overview, is_overview_of_any


def cut(image, rows, columns):
    """The tiles (c, h, w) of an image, row by row."""
    return [tile for line in image.chunk(rows, -2) for tile in line.chunk(columns, -1)]


def image(seed, side=96):
    """Smooth colours, as a photograph has them."""
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=(side, side), mode="bilinear")[0]


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2), (3, 2), (1, 4), (3, 4)])
def test_an_overview_is_told_from_another_image(rows, columns):
    whole, other = image(0), image(1)
    tiles = cut(whole, rows, columns)
    small = torch.nn.functional.avg_pool2d(whole, 3)
    assert is_overview(tiles, small, rows) is True
    assert is_overview(tiles, torch.nn.functional.avg_pool2d(other, 3), rows) is False
    assert is_overview_of_any(tiles, small) is True
    assert is_overview_of_any([*tiles[1:], tiles[0]], small) is False
    assert is_overview_of_any(tiles, tiles[0]) is False


def test_scaled_apart_and_normalized():
    """Tiles were scaled up, the overview down, in whatever type and range."""
    whole = image(2)
    tiles = [torch.nn.functional.interpolate(tile[None], size=(50, 70))[0] for tile in cut(whole, 2, 2)]
    small = torch.nn.functional.interpolate(whole[None], size=(40, 37))[0]
    assert is_overview([tile.bfloat16() for tile in tiles], small.bfloat16(), 2) is True
    assert is_overview([tile * 3 + 1 for tile in tiles], small, 2) is False


def test_blank_images_tell_nothing():
    blank, grey = torch.ones(3, 32, 32), torch.full((3, 32, 32), 0.5)
    assert is_overview([blank, blank], blank, 1) is None
    assert is_overview_of_any([blank] * 4, blank) is None
    assert is_overview([blank, grey], blank, 1) is False
    assert is_overview([image(3), blank], blank, 1) is False
    colour = torch.tensor([0.1, 0.5, 0.9])[:, None, None].expand(3, 32, 32)
    assert is_overview([colour, colour], colour, 1) is None
