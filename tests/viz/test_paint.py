"""Which token each cell of an overlay belongs to, and the marks that tell why it was kept."""

import numpy as np
import pytest
import torch
from PIL import Image

import foveate
from foveate import draw
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.models import lookup
from foveate.models.visual_input import Tile, tile_frames
from foveate.viz.paint import AMBER, SKY
from viz.drawing import WHITE, bright, draw_bare, explained, halves, pixels, plain
from viz.golden.write import make_item, make_report


def test_kept_cells_stay_and_the_rest_fades():
    """Neither dark nor of another hue, on a colour, on white and on black."""
    colors = {ground: [] for ground in ((200, 40, 40), (255, 255, 255), (0, 0, 0))}
    for ground in colors:
        out = pixels(draw_bare(Image.new("RGB", (64, 32), ground), plain([0, 7], (1, 2, 4))))
        assert out.shape == (256, 512, 3)
        middles = out[64:256:128, 64:512:128].reshape(8, 3)  # of the 2 x 4 cells of 128 pixels
        assert (middles[[0, 7]] == ground).all()
        dropped = middles[1:7]
        assert (dropped > 110).all()
        assert (np.ptp(dropped, axis=-1) < 40).all()  # desaturated
        assert np.abs(dropped - ground).max() > 15  # unlike what was kept
        assert (out[0, :128] == AMBER).all()
        assert (out[0, 128:] != AMBER).any(-1).all()


def test_writing_is_readable_under_the_veil():
    image = Image.new("RGB", (64, 32), "white")
    image.paste("black", (0, 0, 32, 32))
    out = pixels(draw_bare(image, plain([], (1, 2, 4))).convert("L"))
    assert out[128, 384] - out[128, 128] > 80


def test_cells_fill_an_image_that_they_do_not_divide():
    out = pixels(draw_bare(Image.new("RGB", (601, 401), "white"), plain(range(7 * 11), (1, 7, 11))))
    assert out.shape == (401, 601, 3)  # large enough already
    dark = (out < 200).all(-1)  # only the thin inner frames
    assert dark.mean() < 0.15


@pytest.mark.parametrize("grid", [(1, 2, 3), (1, 3, 2), (1, 1, 6), (1, 6, 1)])
def test_every_index_has_its_own_cell(grid):
    for index in range(6):
        assert bright(pixels(draw_bare(WHITE, plain([index], grid))), *grid[1:]) == {index}


def test_rows_may_end_in_a_protected_token():
    item = make_item([1, 4, 8, 9], (Tile(1, 2, 3, 4),), total=10)  # a mark, rows of three and their ends, a mark
    assert bright(pixels(draw_bare(WHITE, make_report(item))), 2, 3) == {0}
    assert tile_frames((2, 2, 4), torch.arange(16) % 4 == 3) == (Tile(0, 2, 3, 4), Tile(8, 2, 3, 4))


def test_methods_that_prune_in_the_decoder():
    model = make_tiny_model(lookup.family("llava"))
    with foveate.pruning(model, keep=5, method=foveate.FastV(layer=1)) as handle:
        model.generate(**make_batch(model, lookup.family("llava"), [(1, 4)]), max_new_tokens=2)
    (item,) = handle.report.items
    assert bright(pixels(draw_bare(Image.new("RGB", (64, 64), "white"), handle.report)), 4, 4) == set(
        item.kept.tolist()
    )


def test_core_and_complement_differ_in_colour_and_shape():
    out = draw_bare(
        Image.new("RGB", (64, 32), "white"), explained([1, 2], [True, False], [i / 7 for i in range(8)], (1, 2, 4))
    )
    core, complement = pixels(out)[:128, 128:256], pixels(out)[:128, 256:384]
    assert (core[0] == AMBER).all()  # the whole edge
    assert (core[:, 1] == AMBER).all()
    assert (complement[0, :30] == SKY).all()
    assert (complement[0, 64] == 255).all()  # open between the corners
    for cell in (core, complement):  # a dark line inside, on white
        assert (cell == 0).all(-1).any()
    grey = pixels(out.convert("L"))
    core, complement = grey[:128, 128:256], grey[:128, 256:384]
    assert np.abs(core - complement).mean() > 10  # as printed without colour
    assert core[0].max() < 200 < complement[0].max()


def test_the_map_is_darker_the_more_relevant_and_of_one_hue():
    for ground in (0, 60, 128, 200, 255):
        image = Image.new("RGB", (90, 60), (ground,) * 3)
        both = draw_bare(image, explained([0], [False]))
        kept, heat = halves(pixels(both))
        assert (kept == pixels(draw_bare(image, plain([0]))))[40:-40, 200:-40].all()  # what was kept has no tint
        height, width = heat.shape[0] // 2, heat.shape[1] // 3
        cells = [heat[height * (i // 3) + height // 2, width * (i % 3) + width // 2] for i in range(6)]
        light = [int(cell.sum()) for cell in cells]
        assert light == sorted(set(light), reverse=True)
        assert all(cell[0] < cell[1] <= cell[2] for cell in cells[1:])
        least = halves(pixels(draw_bare(image, explained([5], [True]))))[0][height // 2, width // 2]
        assert (cells[0] == least).all()  # the least relevant one is as under the veil


@pytest.mark.parametrize("relevance", [None, [0.5] * 6, [float("nan")] * 6])
def test_a_constant_relevance_is_like_none(relevance):
    report = explained([0, 4], [False, False], relevance=relevance)
    assert draw(WHITE, report) == draw(WHITE, plain([0, 4]))


def test_tokens_without_relevance_have_no_heat():
    nan = float("nan")
    kept, heat = halves(pixels(draw_bare(WHITE, explained([0], [True], relevance=[0.1, nan, 0.2, 0.9, nan, 0.4]))))
    height, width = kept.shape[0] // 2, kept.shape[1] // 3
    same = (kept == heat).all(-1)
    assert same[height // 2, width + width // 2]
    assert same[height + height // 2, width + width // 2]
    assert not same[height + height // 2, width // 2]


def test_tiny_cells_and_nothing_kept():
    image = Image.effect_noise((512, 40), 50).convert("RGB")
    for report in (plain(range(50 * 600), (1, 50, 600)), plain([], (1, 4, 4))):
        assert draw_bare(image, report).width >= 512
    assert draw_bare(Image.new("RGB", (2000, 1)), plain([0], (1, 1, 4))).size == (2000, 10)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 8, 12])
def test_marks_degrade_with_the_size_of_the_cells(side):
    count = -(-1024 // side)
    many = (1, count, count)
    relevance = [i / count**2 for i in range(count**2)]
    image = Image.new("RGB", (side * count, side * count), "white")
    out = pixels(draw_bare(image, explained([0, 5], [True, False], relevance=relevance, grid=many)))
    assert out.shape[0] == side * count
    assert out[0, 0].min() > 200 or (out[0, 0] == AMBER).all()  # kept either way
    assert (out == AMBER).all(-1).any() == (out == SKY).all(-1).any() == (side >= 3)


def test_small_cells_get_a_larger_overlay():
    assert draw_bare(Image.new("RGB", (60, 40)), plain([0], (1, 40, 60))).size == (840, 560)
    assert draw_bare(Image.new("RGB", (90, 90)), plain([0], (1, 90, 90))).size == (1024, 1024)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "LA", "I;16"])
def test_the_image_is_not_changed(mode):
    image = Image.new("L", (600, 600), 255).convert(mode) if mode != "I;16" else Image.new(mode, (600, 600), 255)
    before = image.tobytes()
    assert draw(image, plain([0], (1, 2, 2))).mode == "RGB"
    assert image.mode == mode
    assert image.tobytes() == before
