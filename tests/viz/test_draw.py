"""What an overlay shows: which cell is whose token, why it was kept, and what cannot be drawn."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import foveate
import foveate.apps.ask as ask_module
from foveate import draw
from foveate.conformance.laws import example, tiny_model
from foveate.conformance.registry import tiny_family
from foveate.errors import InputError
from foveate.models import lookup
from foveate.models.visual_input import Item, View, frames, lines, runs, squares
from foveate.runtime.load import load, quiet
from foveate.viz import check_overlay, save, visible_region
from foveate.viz.legend import list_entries
from foveate.viz.paint import AMBER, SKY
from foveate.viz.panels import make_panels
from tiny import tiny_folder
from viz.golden.write import FOLDER, drawn, report, scene

WHITE = Image.new("RGB", (90, 60), "white")
GRID = (1, 2, 3)
RISING = [[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]]
NEVER = {  # families whose pictures' tokens lie in no raster
    "aria", "deepseek_ocr2", "florence2", "idefics", "idefics2", "inkling_mm_model", "llama4", "mllama", "molmo2",
    "unlimited_ocr",
}  # fmt: skip


def pixels(image):
    return np.asarray(image).astype(int)


def bright(out, rows, columns):
    """Which of the cells of an overlay of a white picture are bright in their middle."""
    middles = np.array([[np.median(b) for b in np.array_split(r, columns, 1)] for r in np.array_split(out, rows, 0)])
    return set(np.flatnonzero(middles.ravel() > 200).tolist())


def plain(kept, grid=GRID):
    return report([list(kept)], [frames(grid)])


def shown(kept, core, relevance=RISING, grid=GRID):
    return report([kept], [frames(grid)], relevance=relevance, core=[core])


def over(image, told, **more):
    return draw(image, told, legend=False, **more)


def test_kept_cells_are_bright_and_the_rest_dark():
    out = pixels(over(Image.new("RGB", (64, 32), (200, 40, 40)), plain([0, 7], (1, 2, 4))))
    assert out.shape == (256, 512, 3)
    middles = out[64::128, 64::128]  # of the 2 x 4 cells of 128 pixels
    assert (middles[0, 0] == (200, 40, 40)).all()
    assert (middles[1, 3] == (200, 40, 40)).all()
    dropped = middles.reshape(8, 3)[1:7]
    assert (dropped.max(-1) < 90).all()
    assert (np.ptp(dropped, axis=-1) < 40).all()  # desaturated
    assert (out[0, :128] == AMBER).all()
    assert (out[0, 128:] != AMBER).any(-1).all()


def test_cells_fill_a_picture_that_they_do_not_divide():
    out = pixels(over(Image.new("RGB", (601, 401), "white"), plain(range(7 * 11), (1, 7, 11))))
    assert out.shape == (401, 601, 3)  # large enough already
    dark = (out < 200).all(-1)  # only the thin inner frames
    assert dark.mean() < 0.15


@pytest.mark.parametrize("grid", [(1, 2, 3), (1, 3, 2), (1, 1, 6), (1, 6, 1)])
def test_every_index_has_its_own_cell(grid):
    for index in range(6):
        assert bright(pixels(over(WHITE, plain([index], grid))), *grid[1:]) == {index}


def test_rows_may_end_in_a_token_of_structure():
    told = report([[1, 4, 8, 9]], [(View(1, 2, 3, 4),)], total=[10])  # a mark, rows of three and their ends, a mark
    assert bright(pixels(over(WHITE, told)), 2, 3) == {0}
    assert frames((2, 2, 4), torch.arange(16) % 4 == 3) == (View(0, 2, 3, 4), View(8, 2, 3, 4))


def test_what_prunes_in_the_decoder_reports_grids_alone():
    told = dataclasses.replace(plain([4]), views=(), grids=(GRID,))
    assert bright(pixels(over(WHITE, told)), 2, 3) == {4}
    model = tiny_model(lookup.family("llava"))
    with foveate.pruning(model, keep=5, method=foveate.FastV(layer=1)) as handle:
        model.generate(**example(model, lookup.family("llava"), [(1, 4)]), max_new_tokens=2)
    assert bright(pixels(over(Image.new("RGB", (64, 64), "white"), handle.report)), 4, 4) == set(
        handle.report.items[0].kept.tolist()
    )


def test_core_and_complement_differ_in_colour_and_shape():
    out = over(
        Image.new("RGB", (64, 32), "white"), shown([1, 2], [True, False], [[i / 7 for i in range(8)]], (1, 2, 4))
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


def test_heat_is_lighter_the_more_relevant_and_never_as_light_as_what_was_kept():
    for ground in (0, 60, 128, 200, 255):
        image = Image.new("RGB", (90, 60), (ground,) * 3)
        out = pixels(over(image, shown([0], [False])))
        grey = np.asarray(over(image, shown([0], [False])).convert("L")).astype(int)
        height, width = out.shape[0] // 2, out.shape[1] // 3
        places = [(height * (i // 3) + height // 2, width * (i % 3) + width // 2) for i in range(1, 6)]
        cells, light = [out[place] for place in places], [int(grey[place]) for place in places]
        assert light == sorted(set(light))
        assert all(cell[0] > cell[1] + 8 and cell[1] >= cell[2] for cell in cells)  # one hue
        assert max(light) < 150
    assert (out[height // 2, width // 2] == 255).all()  # kept: no tint
    least = pixels(over(WHITE, shown([5], [True])))[height // 2, width // 2]
    assert (least == pixels(over(WHITE, plain([5])))[height // 2, width // 2]).all()  # none for the least relevant


@pytest.mark.parametrize("relevance", [[None], [[0.5] * 6], [[float("nan")] * 6]])
def test_a_map_that_says_nothing_is_as_none(relevance):
    told = shown([0, 4], [False, False], relevance=relevance)
    assert draw(WHITE, told) == draw(WHITE, plain([0, 4]))


def test_tokens_that_were_not_to_be_chosen_have_no_heat():
    nan = float("nan")
    some = pixels(over(WHITE, shown([0], [True], relevance=[[0.1, nan, 0.2, 0.9, nan, 0.4]])))
    none = pixels(over(WHITE, plain([0])))
    height, width = none.shape[0] // 2, none.shape[1] // 3
    same = (some == none).all(-1)
    assert same[height // 2, width + width // 2]
    assert same[height + height // 2, width + width // 2]
    assert not same[height + height // 2, width // 2]


def test_tiny_cells_and_nothing_kept():
    image = Image.effect_noise((512, 40), 50).convert("RGB")
    for told in (plain(range(50 * 600), (1, 50, 600)), plain([], (1, 4, 4))):
        assert over(image, told).width >= 512
    assert over(Image.new("RGB", (2000, 1)), plain([0], (1, 1, 4))).size == (2000, 1)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 8, 12])
def test_marks_degrade_with_the_size_of_the_cells(side):
    count = -(-1024 // side)
    many = (1, count, count)
    relevance = [[i / count**2 for i in range(count**2)]]
    image = Image.new("RGB", (side * count, side * count), "white")
    out = pixels(over(image, shown([0, 5], [True, False], relevance=relevance, grid=many)))
    assert out.shape[0] == side * count
    assert out[0, 0].min() > 200 or (out[0, 0] == AMBER).all()  # kept either way
    assert (out == AMBER).all(-1).any() == (out == SKY).all(-1).any() == (side >= 3)


def test_cells_that_would_be_small_get_a_larger_picture():
    assert over(Image.new("RGB", (60, 40)), plain([0], (1, 40, 60))).size == (840, 560)
    assert over(Image.new("RGB", (90, 90)), plain([0], (1, 90, 90))).size == (1024, 1024)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK", "LA", "I;16"])
def test_the_picture_is_not_changed(mode):
    image = Image.new("L", (600, 600), 255).convert(mode) if mode != "I;16" else Image.new(mode, (600, 600), 255)
    before = image.tobytes()
    assert draw(image, plain([0], (1, 2, 2))).mode == "RGB"
    assert image.mode == mode
    assert image.tobytes() == before


def test_the_legend_counts_and_wraps():
    wide, narrow = (
        draw(Image.new("RGB", size), shown([1, 2, 5], [True, False, True])) for size in ((900, 600), (9, 90))
    )
    assert wide.size[0] == 900
    assert narrow.size[0] < 60  # a strip narrower than most words: nothing is lost, it only gets long
    assert narrow.size[1] > 512 + 100
    strip = pixels(wide.crop((0, 600, 900, wide.height)))
    assert (strip[-1] == 255).all()
    assert ((strip == AMBER).all(-1).sum(), (strip == SKY).all(-1).sum()) > (8, 8)
    assert (strip == 0).all(-1).sum() > 100  # words
    counts = {draw(WHITE, plain(range(n))).tobytes() for n in (1, 2, 3)}
    assert len(counts) == 3
    assert draw(WHITE, plain([0])).size[1] < draw(WHITE, shown([0], [True])).size[1]  # three marks take more room


def test_the_legend_says_no_more_than_there_is():
    def said(told):
        return [text for _, text in list_entries(make_panels([WHITE], told, None, None)[0])]

    assert said(plain([1, 2])) == ["kept 2 of 6"]
    assert said(plain([])) == ["kept 0 of 6"]
    marks = ["core 1: the most relevant", "complement 1: different from the rest"]
    assert said(shown([1, 2], [True, False])) == [*marks, "heat: relevance"]
    assert said(shown([*range(6)], [False] * 6))[1:] == ["complement 6: different from the rest"]  # nothing was dropped
    assert said(report([[0, 2, 5]], [(View(0, 2, 2, 3),)], total=[6])) == ["kept 1 of 4"]  # ends of rows do not count


def test_the_legend_is_readable_at_512_pixels():
    out = draw(WHITE, shown([1, 2, 5], [True, False, True]))
    ink = pixels(out.convert("L"))[over(WHITE, plain([0])).height :]
    lines = np.flatnonzero(np.diff((ink[:, 60:] < 100).any(1).astype(int)))
    assert out.width == 512
    assert np.diff(lines)[::2].min() >= 9  # pixels from the top of an ascender to the base line, at least
    assert ink[:, -4:].min() > 200  # no word runs off the edge


def test_several_pictures_stand_side_by_side():
    told = report([[0], [5]], [frames(GRID)] * 2)
    out = pixels(over([WHITE, WHITE], told))
    height, width = out.shape[:2]
    assert max(height, width) > 512
    assert height == 2 * 341 + 8  # one above the other is nearer to a square
    assert bright(out[:341], 2, 3) == {0}
    assert bright(out[349:], 2, 3) == {5}
    for item, index in ((0, 0), (1, 5), (-1, 5), (slice(1, 2), 5)):
        assert bright(pixels(over(WHITE, told, item=item)), 2, 3) == {index}
        assert over([WHITE], told, item=item) == over(WHITE, told, item=item)


def test_sounds_are_passed_over():
    told = dataclasses.replace(report([[2], [1]], [frames(GRID), ()]), modalities=("image", "audio"))
    assert bright(pixels(over(WHITE, told)), 2, 3) == {2}


@pytest.mark.parametrize(
    ("count", "middles"), [(4, (0, 1, 2, 3)), (8, (1, 3, 5, 7)), (10, (1, 3, 6, 8)), (5, (0, 1, 3, 4))]
)
def test_frames_of_a_clip(count, middles):
    """A view shows the frame in the middle of those that it stands for, in reading order."""
    clip = [Image.new("RGB", (60, 60), (25 * i + 1,) * 3) for i in range(count)]
    whole = report([range(4 * 4)], [frames((4, 2, 2))], modality="video")
    apart = report([range(4)] * 4, [frames((1, 2, 2))] * 4, modality="video", tiles_apart=True, overview="first")
    for told in (whole, apart):
        out = pixels(over(clip, told))
        cells = [out[y : y + 512, x : x + 512] for y in (0, 520) for x in (0, 520)]
        assert [int(np.median(cell[20:236, 20:236])) for cell in cells] == [25 * m + 1 for m in middles]


def test_a_long_clip_is_no_giant():
    out = over([scene()] * 40, report([[3]], [frames((40, 2, 2))], modality="video"))
    assert 512 <= max(out.size) < 2600
    assert 0.6 < out.width / out.height < 1.7


@pytest.mark.parametrize(
    ("image", "told", "more", "text"),
    [
        (WHITE, report([], []), {}, "holds no picture: draw"),
        (WHITE, plain([0]), {"item": 1}, "no picture at item=1"),
        (WHITE, plain([0]), {"item": "0"}, "item='0' is not an index"),
        (Image.new("RGB", (0, 9)), plain([0]), {}, "no pixels"),
        (WHITE, plain([0]), {"item": slice(1, 9)}, "no picture at item=slice"),
        (WHITE, report([[0]], [()], modality="audio"), {}, "holds no picture"),
        ([], plain([0]), {}, "one of Pillow's"),
        (["scene.png"], plain([0]), {}, "one of Pillow's"),
        (WHITE, report([[0]], [()]), {}, "no raster"),
        (WHITE, dataclasses.replace(plain([0]), views=()), {}, "no raster"),
        (WHITE, report([[0]] * 2, [frames(GRID)] * 2), {}, "1 pictures do not fit the 2 .* item=0"),
        ([WHITE] * 3, report([[0]] * 2, [frames(GRID)] * 2), {}, "3 pictures do not fit the 2"),
        ([WHITE] * 2, plain([0]), {}, "2 pictures do not fit the 1"),
        (WHITE, report([[0]], [frames((3, 2, 2))], modality="video"), {}, "frames as a sequence"),
        ([WHITE] * 2, report([[0]], [frames((3, 2, 2))], modality="video"), {}, "give its 3 frames or more, not 2"),
        (WHITE, report([[0]] * 2, [squares(1, 2)] * 2, tiles_apart=True, overview="last"), {}, "These 2 are not"),
        (WHITE, report([[0]] * 3, [squares(1, 2)] * 3, tiles_apart=True), {}, "cannot be told: draw them one by one"),
        (
            WHITE,
            report([[0]] * 4, [squares(1, 2), squares(1, 3)] * 2, tiles_apart=True, overview="last"),
            {},
            "These 4 are not",
        ),
    ],
)
def test_what_cannot_be_drawn(image, told, more, text):
    with pytest.raises(InputError, match=text):
        draw(image, told, **more)


@pytest.mark.parametrize("name", sorted(drawn()))
def test_golden_pictures(name):
    """`python tests/golden/write.py` writes them anew. The tolerance is for another Pillow, not for another token."""
    with Image.open(FOLDER / f"{name}.png") as image:
        golden = pixels(image.convert("RGB"))
    off = [np.abs(pixels(drawn(change)[name]) - golden).mean() for change in (0, 1, 2)]
    assert off[0] < 0.5 < 1.5 < min(off[1:])


# What the model really sees: its processor on pictures whose colours are coordinates, red across and green down. Blue
# tells the picture from black padding.


def ramp(width, height):
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray(np.round(np.stack([x, y, 0 * x + 1], -1) * 255).astype(np.uint8))


def idefics(name):
    def tiles(image):
        module = pytest.importorskip(f"transformers.models.{name}.image_processing_pil_{name}")
        kind = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[name]
        settings = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 16}, "do_normalize": False}
        found = getattr(module, f"{kind}ImageProcessorPil")(**settings)(image, return_tensors="np")
        return found["pixel_values"][0]

    return tiles


def granite_docling(image):
    from transformers.models.granite_docling.image_processing_pil_granite_docling import GraniteDoclingImageProcessorPil

    processor = GraniteDoclingImageProcessorPil(size={"height": 16, "width": 16}, do_normalize=False)
    return processor(image, return_tensors="np")["pixel_values"][0]


def got_ocr2(image):
    """Aya Vision's, InternVL's and Qianfan-OCR's too."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    processor = GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, do_normalize=False, crop_to_patches=True)
    return processor(image, return_tensors="np")["pixel_values"]


def minicpm(image):
    from transformers.models.minicpmv4_6.image_processing_pil_minicpmv4_6 import MiniCPMV4_6ImageProcessorPil

    processor = MiniCPMV4_6ImageProcessorPil(scale_resolution=32, patch_size=2, do_normalize=False)
    found = processor(image, return_tensors="np")
    sizes = found["target_sizes"].tolist()
    ends = np.cumsum([2 * h * w for h, w in sizes])[:-1]
    strips = np.split(found["pixel_values"][0], ends, -1)
    return [
        strip.reshape(3, 2, h, w, 2).transpose(0, 2, 1, 3, 4).reshape(3, 2 * h, 2 * w)
        for strip, (h, w) in zip(strips, sizes, strict=True)
    ]


TILED = {
    "idefics3": idefics("idefics3"), "smolvlm": idefics("smolvlm"), "granite_docling": granite_docling,
    "got_ocr2": got_ocr2, "aya_vision": got_ocr2, "internvl": got_ocr2, "minicpmv4_6": minicpm,
}  # fmt: skip
SIZES = [(96, 40), (40, 96), (90, 61), (64, 64), (150, 30), (47, 61), (45, 45)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model_type", TILED)
def test_tiles_are_drawn_where_the_processor_cut_them_out(model_type, size):
    if model_type not in lookup.available():
        pytest.skip("not in this transformers")
    family, tiles = lookup.family(model_type), TILED[model_type](ramp(*size))
    count = len(tiles)
    assert count > 2
    middles = [
        tile[:2, tile.shape[1] // 2 - 1 : tile.shape[1] // 2 + 1, tile.shape[2] // 2 - 1 :][..., :2] for tile in tiles
    ]
    for number, middle in enumerate(middles):
        every = list(range(4))
        if family.tiles_apart:
            kept, views = [every if n == number else [] for n in range(count)], [squares(1, 2)] * count
        else:
            kept, views = [[4 * number + i for i in every]], [squares(count, 2)]
        told = report(kept, views, overview=family.traits.overview, tiles_apart=family.tiles_apart)
        out = pixels(over(Image.new("RGB", size, "white"), told))
        width = (out.shape[1] - 8) // 2
        is_overview = number == (0 if family.traits.overview == "first" else count - 1)
        half = out[:, width + 8 :] if is_overview else out[:, :width]
        other = out[:, :width] if is_overview else out[:, width + 8 :]
        assert other.max() < 130
        rows, columns = np.nonzero(half.min(-1) > 200)
        where = np.array([(columns.mean() + 0.5) / width, (rows.mean() + 0.5) / out.shape[0]])
        assert np.abs(where - middle.mean((1, 2))).max() < 0.04


@pytest.mark.parametrize("size", [(96, 40), (40, 96), (90, 61), (64, 64), (47, 61), (200, 64)])
@pytest.mark.parametrize("model_type", ["llava_next", "llava_onevision", "granite4_vision"])
def test_joined_tiles_without_their_padding_cover_the_picture(model_type, size):
    """The tokens' own mean colours, packed by the stock model, are the places of the cells that they are drawn in."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    if model_type not in lookup.available():
        pytest.skip("not in this transformers")
    family = lookup.family(model_type)
    model = tiny_model(family)
    config, side = model.config, model.config.vision_config.image_size
    across = _tokens_across(model_type, config)
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_normalize=False,
        image_grid_pinpoints=config.image_grid_pinpoints,
    )  # fmt: skip
    tiles = torch.as_tensor(processor(ramp(*size), return_tensors="np")["pixel_values"][0])
    means = torch.nn.functional.adaptive_avg_pool2d(tiles, across)  # (tiles, 3, h, w)
    newline = torch.full((3,), -1.0)
    settings = {"vision_feature_select_strategy": "default"} if model_type != "llava_onevision" else {}
    packed = model.base_model.pack_image_features(
        [means.flatten(2).mT], torch.tensor([size[::-1]]), image_newline=newline, **settings
    )
    tokens = (packed[0] if isinstance(packed, tuple) else packed)[0]
    fixed = (tokens == newline).all(-1)
    views = family.views(config, {}, Item("image", 0, torch.arange(len(tokens)), 0, tokens, None, fixed))
    assert sorted(t for view in views for t in view.tokens()) == (~fixed).nonzero().squeeze(1).tolist()
    assert [len(views), (views[0].rows, views[0].columns)] == [2, (across, across)]
    for view in views:
        for cell, token in enumerate(view.tokens()):
            row, column = divmod(cell, view.columns)
            where = torch.tensor([(column + 0.5) / view.columns, (row + 0.5) / view.rows])
            step = torch.tensor([1 / view.columns, 1 / view.rows])
            came_from = tokens[token, :2] / tokens[token, 2]  # of the part that is no padding
            assert bool(((came_from - where).abs() < 0.6 * step + 0.02).all()), (view, cell)


def _tokens_across(model_type, config):
    side = config.vision_config.image_size // config.vision_config.patch_size
    if model_type != "granite4_vision":
        return side
    fewer, of = map(int, config.downsample_rate.split("/"))
    return side * fewer // of


@pytest.mark.parametrize("model_type", lookup.available())
def test_every_family_is_drawn_or_says_why_not(model_type):
    """The views hold every token that may be dropped, exactly once; and a report of the tiny model can be drawn."""
    family = lookup.family(model_type)
    model = tiny_model(family)
    visual = tuple(m for m in family.traits.modalities if m != "audio")
    with torch.no_grad():
        told = foveate.prune_inputs(
            model, example(model, family, [((visual[0],) * 2, 4), (visual, 4)]), keep=0.4, explain=True
        ).report
    assert len(told.views) == len(told.relevance) == len(told.core) == len(told.kept)
    for n, views in enumerate(told.views):
        assert told.core[n].shape == told.kept[n].shape
        if not views:
            expected = "no raster" if told.modalities[n] != "audio" else "holds no"
            assert model_type in NEVER or (model_type, told.modalities[n]) == ("video_llava", "video")
            with pytest.raises(InputError, match=expected):
                draw(WHITE, told, item=n)
            continue
        tokens = [token for view in views for token in view.tokens()]
        assert len(set(tokens)) == len(tokens) <= told.total[n]
        left_out = set(range(told.total[n])) - set(tokens)
        assert left_out <= set(told.kept[n].tolist())  # structure, which always stays
        relevance = told.relevance[n]
        assert relevance is None or bool(relevance[sorted(left_out)].isnan().all())
        pictures = [WHITE] * (len(views) if told.modalities[n] == "video" else 1)
        out = draw(pictures, told, item=n)
        assert max(out.size) >= 512


@pytest.mark.parametrize(
    ("model_type", "count", "views"),
    [
        ("internvl", 16, squares(1, 4)),
        ("internvl", 48, squares(3, 4)),
        ("internvl", 50, ()),
        ("llava_onevision", 17, (View(0, 4, 4, 4, padded=True),)),
        ("llava_next", 17, ()),
        ("emu3", 5, (View(0, 1, 4, 4),)),
    ],
)
def test_views_without_a_grid(model_type, count, views):
    family = lookup.family(model_type)
    fixed = None if model_type == "internvl" else torch.arange(count) == count - 1
    item = Item("image", 0, torch.arange(count), 0, torch.zeros(count, 1), None, fixed)
    assert family.views(tiny_family(family).make_config(), {}, item) == views


def test_uneven_rows_are_no_raster():
    for fixed in ([0, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0, 1, 0, 0, 1], [1, 1]):
        assert lines(runs(torch.tensor(fixed, dtype=torch.bool))) == ()


def test_what_explaining_costs_is_not_timed(tmp_path, monkeypatch):
    with quiet():
        loaded = load(str(tiny_folder("llava", tmp_path)))
    asked, stock = [], ask_module.prune_inputs
    monkeypatch.setattr(ask_module, "prune_inputs", lambda *args, **more: asked.append(more) or stock(*args, **more))
    plain, told = (ask_module.ask(loaded, scene(), "what color?", keep=3, explain=why) for why in (False, True))
    assert [more.get("explain", False) for more in asked] == [False] * (len(asked) - 1) + [True]
    assert tuple(item.core for item in plain.report.items) == ()
    assert len(told.report.items[0].core) == 3
    assert told.answer == plain.answer
    assert draw(scene(), told.report, processor=loaded.processor).mode == "RGB"


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (50, 50), (61, 40)])
@pytest.mark.parametrize("crop", [32, 24, 40])
def test_visible_region_is_what_clip_sees(size, crop):
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": crop, "width": crop}, do_normalize=False
    )
    ramp = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), -1) * 2
    image = Image.fromarray(np.concatenate([ramp, 0 * ramp[..., :1] + 99], -1).astype(np.uint8))
    model_sees = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0) * 255
    part = visible_region(image, processor)
    shown = np.asarray(part.resize((crop, crop), Image.Resampling.BICUBIC)).astype(float)
    inner = slice(6, -6)
    assert np.abs(shown - model_sees)[inner, inner].max() < 6


@pytest.mark.parametrize("size", [(90, 40), (40, 90), (64, 64)])
@pytest.mark.parametrize("name", ["Llava", "DeepseekVL", "Janus"])
def test_visible_region_is_what_processors_that_pad_make_of_a_picture(name, size):
    module = {"Llava": "llava", "DeepseekVL": "deepseek_vl", "Janus": "janus"}[name]
    kind = getattr(
        pytest.importorskip(f"transformers.models.{module}.image_processing_pil_{module}"), f"{name}ImageProcessorPil"
    )
    square = {"height": 32, "width": 32}
    more = {"size": {"shortest_edge": 32}, "crop_size": square, "do_pad": True} if name == "Llava" else {"size": square}
    processor = kind(do_normalize=False, **more)
    model_sees = np.asarray(processor(ramp(*size), return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    part = visible_region(ramp(*size), processor).resize((32, 32), Image.Resampling.BICUBIC)
    shown = np.asarray(part).astype(float) / 255
    inside = (shown[..., 2] > 0.9) & (model_sees[..., 2] > 0.9)
    assert inside.sum() > 32 * 32 * min(size) / max(size) - 80
    assert np.abs(shown - model_sees)[inside].max() < 0.04


def test_visible_region_of_squashed_and_padded_pictures():
    image = Image.new("RGB", (40, 20), "white")
    squashed = CLIPImageProcessorPil(size={"height": 32, "width": 32}, do_center_crop=False)
    assert visible_region(image, squashed) is image
    assert visible_region(image, object()) is image

    class Pads:
        do_pad = True

    padded = visible_region(image, Pads())
    assert padded.size == (40, 40)
    assert padded.getpixel((20, 5)) == (0, 0, 0)
    assert padded.getpixel((20, 20)) == (255, 255, 255)


def test_with_the_processor_only_what_reaches_the_model_is_drawn():
    class Whole:
        image_processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})

    class Pads:
        do_pad = True

    square = dataclasses.replace(plain([0], (1, 2, 2)), grids=((1, 2, 2),))
    wide = dataclasses.replace(plain([0], (1, 2, 4)), grids=((1, 2, 4),))
    image = scene()
    for processor in (Whole(), Whole.image_processor):
        assert over(image, square, processor=processor) == over(visible_region(image, Whole.image_processor), square)
    assert over(image, square, processor=Pads()).size == (512, 512)
    assert over(image, wide, processor=Pads()) == over(image, wide)  # it is the batch that is padded
    for told in (
        report([[0]], [squares(1, 2)], grids=((1, 2, 2),), tiles_apart=True, overview="last"),
        report([[0]] * 3, [squares(1, 2)] * 3, grids=((1, 2, 2),) * 3, tiles_apart=True, overview="last"),
        report([[0]], [(View(0, 2, 2, 2), View(4, 2, 3, 4))], total=[12], overview="first"),
    ):
        for processor in (Whole(), Pads()):
            assert over(image, told, processor=processor) == over(image, told)  # tiles: no crop, no padding
    alone = report([[0]], [(View(0, 2, 2, 2, padded=True),)])
    assert over(image, alone).size == (512, 512)


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg", "webp"])
def test_save(tmp_path, suffix):
    path = tmp_path / f"o.{suffix}"
    path.write_text("old")
    save(Image.new("RGB", (8, 8), "red"), path)
    with Image.open(path) as drawn:
        assert drawn.size == (8, 8)
    assert list(tmp_path.iterdir()) == [path]


def test_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "o.png"
    path.write_text("old")

    def full(self, target, format):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="No space left"):
        save(Image.new("RGB", (8, 8)), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_overlay_paths_that_cannot_be(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name, text in (
        ("o.txt", "no image suffix"),
        ("o", "no image suffix"),
        ("none/o.png", "no folder"),
        ("folder.png", "is a f"),
    ):
        with pytest.raises(InputError, match=text):
            check_overlay(tmp_path / name)
