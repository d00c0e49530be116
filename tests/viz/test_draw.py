"""Images, videos and reports that `draw` takes, what it refuses, and golden images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import foveate.apps.ask as ask_module
from foveate import draw
from foveate.errors import InputError
from foveate.models.visual_input import Tile, tile_frames, tile_squares
from foveate.runtime.load import load, quiet
from foveate.viz import visible_region
from foveate.viz.legend import list_entries
from foveate.viz.paint import STRIPE, VEIL, TokenState
from foveate.viz.panels import make_panels
from tiny import tiny_folder
from viz.drawing import GRID, WHITE, bright, draw_bare, explained, halves, pixels, plain
from viz.golden.write import FOLDER, draw_cases, make_item, make_report, make_scene, mark_overview


def test_several_images_stand_side_by_side():
    report = make_report(make_item([0], tile_frames(GRID)), make_item([5], tile_frames(GRID)))
    out = pixels(draw_bare([WHITE, WHITE], report))
    height, width = out.shape[:2]
    assert max(height, width) > 512
    assert height == 2 * 341 + 8  # one above the other is nearer to a square
    assert bright(out[:341], 2, 3) == {0}
    assert bright(out[349:], 2, 3) == {5}
    for item, index in ((0, 0), (1, 5), (-1, 5)):
        assert bright(pixels(draw_bare(WHITE, report, item=item)), 2, 3) == {index}
        assert draw_bare([WHITE], report, item=item) == draw_bare(WHITE, report, item=item)


def test_audios_are_passed_over():
    report = make_report(make_item([2], tile_frames(GRID)), make_item([1], (), modality="audio"))
    assert bright(pixels(draw_bare(WHITE, report)), 2, 3) == {2}


@pytest.mark.parametrize(
    ("count", "middles"), [(4, (0, 1, 2, 3)), (8, (1, 3, 5, 7)), (10, (1, 3, 6, 8)), (5, (0, 1, 3, 4))]
)
def test_frames_of_a_video(count, middles):
    """A tile is drawn over the frame in the middle of those that it covers, in reading order."""
    video = [Image.new("RGB", (60, 60), (25 * i + 1,) * 3) for i in range(count)]
    out = pixels(draw_bare(video, make_report(make_item(range(4 * 4), tile_frames((4, 2, 2)), modality="video"))))
    cells = [out[y : y + 512, x : x + 512] for y in (0, 520) for x in (0, 520)]
    assert [int(np.median(cell[20:236, 20:236])) for cell in cells] == [25 * m + 1 for m in middles]


def test_a_long_video_is_no_giant():
    report = make_report(make_item([3], tile_frames((40, 2, 2)), modality="video"))
    out = draw_bare([make_scene()] * 40, report)
    assert 512 <= max(out.size) < 2600
    assert 0.6 < out.width / out.height < 1.7


def test_tiles_that_were_not_encoded():
    """Nothing but lines is shown there, on the map neither; the overview beside them is whole."""
    tiles = mark_overview(tile_squares(3, 2), -1)
    absent, relevance = torch.tensor([False] * 4 + [True] * 4 + [False] * 4), [0.5] * 4 + [torch.nan] * 4 + [0.9] * 4
    item = make_item([1, 9], tiles, relevance=relevance)
    wide = Image.new("RGB", (120, 60), (40, 90, 40))
    panels = make_panels([wide], make_report(replace(item, absent=absent)), None, None)[0]
    none, kept, dropped = TokenState.ABSENT, TokenState.KEPT, TokenState.DROPPED
    assert panels[0].states == [dropped, kept, none, none, dropped, dropped, none, none]
    assert panels[1].states == [dropped, kept, dropped, dropped]
    assert all(heat is None for heat, state in zip(panels[0].heat, panels[0].states, strict=True) if state is none)
    plain = replace(item, relevance=None)
    over, overview = halves(pixels(draw_bare(wide, make_report(replace(plain, absent=absent)))))
    over_whole, whole = halves(pixels(draw_bare(wide, make_report(plain))))
    half = over.shape[1] // 2
    right = over[:, half + 2 : -2]
    lines = (right == STRIPE).all(-1)
    assert 0.02 < lines.mean() < 0.4
    assert (right == VEIL)[~lines].all()
    assert (over[:, : half - 2] == over_whole[:, : half - 2]).all()
    assert (overview == whole).all()


def test_a_first_look_stands_before_what_was_kept():
    attention = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.5, 1.0])
    kept = make_item([1, 4], tile_frames(GRID), relevance=attention.tolist(), core=[False, True])
    looked = replace(kept, look=torch.tensor([0, 5]), attention=attention)
    before, after = make_panels([WHITE], make_report(looked), None, None)[0]
    dropped = TokenState.DROPPED
    assert before.states == [TokenState.LOOK, *[dropped] * 4, TokenState.LOOK]
    assert after.states == [dropped, TokenState.COMPLEMENT, dropped, dropped, TokenState.CORE, dropped]
    assert before.heat == after.heat == attention.tolist()
    kept_alone, look_alone = (draw_bare(WHITE, make_report(looked), step=step) for step in ("kept", "look"))
    assert kept_alone == draw_bare(WHITE, make_report(kept), step="kept")
    assert bright(pixels(kept_alone), 2, 3) == {1, 4}  # without a map
    assert bright(halves(pixels(look_alone))[0], 2, 3) == {0, 5}
    bare = make_report(replace(looked, relevance=None, core=None, attention=None))
    first, second = halves(pixels(draw_bare(WHITE, bare)))
    assert bright(first, 2, 3) == {0, 5}
    assert bright(second, 2, 3) == {1, 4}
    assert [text for _, text in list_entries([before, after])] == [
        "first look 2 of 6: averages around these",
        "core 1: the most relevant to the question",
        "complement 1: different from the rest",
        "dropped 4 of 6",
        "map: attention of the first look, then relevance",
    ]
    panels = make_panels([WHITE], make_report(replace(looked, relevance=None, core=None)), None, None)[0]
    assert [text for _, text in list_entries(panels)][1] == "kept 2 of 6"


def test_the_map_alone():
    report = explained([1, 2], [True, False])
    kept, heat = (pixels(draw_bare(WHITE, report, step=step)) for step in ("kept", "map"))
    both = halves(pixels(draw_bare(WHITE, report)))
    assert (both[0] == kept).all()
    assert (both[1] == heat).all()
    texts = [text for _, text in list_entries(make_panels([WHITE], report, None, None, "map")[0])]
    assert texts == ["map: relevance to the question"]
    with pytest.raises(InputError, match="holds no relevance: prune with explain=True"):
        draw(WHITE, plain([0]), step="map")


def test_the_original_stands_beside_a_single_image():
    scene = make_scene()
    size = draw_bare(scene, plain([0])).size
    shown = draw(scene, plain([0]), legend=False)
    first, second = (Image.fromarray(half.astype(np.uint8)) for half in halves(pixels(shown)))
    inside = (2, 2, size[0] - 2, size[1] - 2)  # a line runs around it
    assert first.size == second.size == size
    assert first.crop(inside) == scene.resize(size, Image.Resampling.LANCZOS).crop(inside)
    assert second == draw_bare(scene, plain([0]))
    two = make_report(*plain([0]).items, *plain([5]).items)
    assert draw([scene] * 2, two, legend=False) == draw_bare([scene] * 2, two)
    beside = draw([scene] * 2, two, legend=False, original=True)
    assert beside.width * beside.height > 1.9 * np.prod(draw_bare([scene] * 2, two).size)


def test_two_reports_on_an_image_stand_side_by_side():
    """Each under its own name, above a legend of its own, and the image once."""
    blind = replace(explained([1, 2], [True, False]), method="holov", prompt_aware=False)
    out = draw(WHITE, [plain([0]), blind])
    size = draw_bare(WHITE, plain([0])).size
    assert out.width == 3 * size[0] + 2 * 8
    assert out.height > 2 * size[1]  # one has a map below
    top = 2 * (3 * size[0] // 80)  # above the panels: titles grow with the width
    panels = [pixels(out)[top : top + size[1], n * (size[0] + 8) :][:, : size[0]] for n in range(3)]
    assert bright(panels[0], 2, 3) == {*range(6)}
    assert [bright(panel, 2, 3) for panel in panels[1:]] == [{0}, {1, 2}]
    assert draw_bare(WHITE, [plain([0]), blind]).width == 2 * size[0] + 8
    titles = pixels(out)[:top].min(-1).min(0)
    assert all((titles[n * (size[0] + 8) :][: size[0]] < 100).any() for n in range(3))  # ink
    assert draw(WHITE, [plain([0])]) == draw(WHITE, plain([0]))


def test_several_reports_stand_in_one_row_under_titles_that_fit():
    """Narrow panels have titles of two lines, so that none is wider than its panel."""
    strip = Image.new("RGB", (900, 1600), "white")
    out, size = draw(strip, [plain([n]) for n in range(4)]), draw_bare(strip, plain([0])).size
    assert out.width == 5 * size[0] + 4 * 8
    points = 5 * size[0] // 80
    ink = (pixels(out)[:, : size[0]].min(-1) < 100).any(1).nonzero()[0]
    assert ink.min() < 2 * points  # "the image"
    first = pixels(out)[: round(3.25 * points), size[0] + 8 :][:, : size[0]]
    rows = (first.min(-1) < 100).any(1)
    assert rows[:points].any()
    assert rows[2 * points :].any()


def test_maps_of_reports_on_a_tall_strip_stand_beside():
    """Below they would make it twice as tall."""
    strip = Image.new("RGB", (100, 900), "white")
    out = draw(strip, [explained([1, 2], [True, False])] * 2, legend=False)
    assert out.height < 1.2 * draw_bare(strip, plain([0])).height


@pytest.mark.parametrize("size", [(900, 20), (20, 900)])
def test_the_cells_of_a_thin_strip_can_be_told_apart(size):
    """Some processors squeeze a strip into a square: its cells would be thinner than a line."""
    out = draw_bare(Image.new("RGB", size, "white"), plain([5], (1, 24, 24)))
    assert min(out.size) == 24 * 10
    assert bright(pixels(out), 24, 24) == {5}
    whole = draw(Image.new("RGB", size, "white"), plain([5], (1, 24, 24)), legend=False)
    assert min(whole.size) < 24 * 10 + 900  # the original keeps its shape
    assert draw(Image.new("RGB", size), plain([5], (1, 24, 24))).width >= 360  # room for the legend


TWO = make_report(make_item([0], tile_frames(GRID)), make_item([0], tile_frames(GRID)))
VIDEO = make_report(make_item([0], tile_frames((3, 2, 2)), modality="video"))
UNEVEN = (*tile_squares(1, 2), Tile(4, 3, 3, 3))


@pytest.mark.parametrize(
    ("image", "report", "more", "text"),
    [
        (WHITE, make_report(), {}, "holds no image: draw"),
        (WHITE, plain([0]), {"item": 1}, "no image at item=1"),
        (WHITE, plain([0]), {"item": -2}, "no image at item=-2"),
        (WHITE, plain([0]), {"item": "0"}, "item='0' is not an index"),
        (WHITE, plain([0]), {"item": slice(1)}, "item=slice.* is not an index"),
        (Image.new("RGB", (0, 9)), plain([0]), {}, "no pixels"),
        (WHITE, make_report(make_item([0], (), modality="audio")), {}, "holds no image"),
        (WHITE, make_report(make_item([0], (), modality="audio")), {"item": 0}, "no image at item=0"),
        (WHITE, plain([0]), {"step": "look"}, "no first look: prune with a method that has one"),
        (WHITE, plain([0]), {"step": "core"}, "step='core' is not known: use one of all, look, kept, map"),
        ([], plain([0]), {}, "one of Pillow's"),
        (WHITE, [], {}, "holds no report"),
        (WHITE, [plain([0]), "foveate"], {}, "report is 'foveate': pass what"),
        (WHITE, plain([0]), {"original": 1}, "original=1 is neither"),
        (["scene.png"], plain([0]), {}, "one of Pillow's"),
        (WHITE, make_report(make_item([0], ())), {}, "no raster"),
        (WHITE, TWO, {}, "1 images do not fit the 2 .* item=0"),
        ([WHITE] * 3, TWO, {}, "3 images do not fit the 2"),
        ([WHITE] * 2, plain([0]), {}, "2 images do not fit the 1"),
        (WHITE, VIDEO, {}, "frames as a sequence"),
        ([WHITE] * 2, VIDEO, {}, "its 3 frames or more, not 2"),
        (WHITE, make_report(make_item([0], tile_squares(3, 2))), {}, "tiles lie over the image is unknown"),
        (WHITE, make_report(make_item([0], mark_overview(UNEVEN * 2, -1))), {}, "tiles lie over the image is unknown"),
    ],
)
def test_what_cannot_be_drawn(image, report, more, text):
    with pytest.raises(InputError, match=text):
        draw(image, report, **more)


@pytest.mark.parametrize("name", sorted(draw_cases()))
def test_golden_images(name):
    """The tolerance is for another Pillow, not for another token."""
    with Image.open(FOLDER / f"{name}.png") as image:
        golden = pixels(image.convert("RGB"))
    off = [np.abs(pixels(draw_cases(change)[name]) - golden).mean() for change in (0, 1, 2)]
    assert off[0] < 0.2 < 0.5 < min(off[1:])


def test_with_the_processor_only_what_reaches_the_model_is_drawn():
    class Whole:
        image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})

    class Pads:
        do_pad = True

    square, wide = (make_report(make_item([0], tile_frames(grid), grid=grid)) for grid in ((1, 2, 2), (1, 2, 4)))
    image = make_scene()
    region = visible_region(image, Whole.image_processor)
    for processor in (Whole(), Whole.image_processor):
        assert draw_bare(image, square, processor=processor) == draw_bare(region, square)
    assert draw_bare(image, square, processor=Pads()).size == (512, 512)
    assert draw_bare(image, wide, processor=Pads()) == draw_bare(image, wide)  # it is the batch that is padded
    for item in (
        make_item([0], mark_overview(tile_squares(1, 2), 0), grid=(1, 2, 2)),
        make_item([0, 4, 8], mark_overview(tile_squares(3, 2), -1)),
        make_item([0], (Tile(0, 2, 2, 2, overview=True), Tile(4, 2, 3, 4)), total=12),
    ):
        for processor in (Whole(), Pads()):  # tiles: no crop, no padding
            assert draw_bare(image, make_report(item), processor=processor) == draw_bare(image, make_report(item))
    alone = make_report(make_item([0], (Tile(0, 2, 2, 2, padded=True),)))
    assert draw_bare(image, alone).size == (512, 512)


def test_what_explaining_costs_is_not_timed(tmp_path, monkeypatch):
    with quiet():
        loaded = load(str(tiny_folder("llava", tmp_path)))
    calls, stock = [], ask_module.prune_inputs
    monkeypatch.setattr(ask_module, "prune_inputs", lambda *args, **more: calls.append(more) or stock(*args, **more))
    scene = make_scene()
    plain, why = (ask_module.ask(loaded, scene, "what color?", keep=3, explain=explain) for explain in (False, True))
    assert [more.get("explain", False) for more in calls] == [False] * (len(calls) - 1) + [True]
    assert plain.report.items[0].core is None
    assert len(why.report.items[0].core) == 3
    assert why.answer == plain.answer
    assert draw(scene, why.report, processor=loaded.processor).mode == "RGB"
