"""Tiles lie over the image where the processor cut them out, for every family."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import foveate
from foveate import draw
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.registry import to_tiny_family
from foveate.errors import FoveateWarning, InputError
from foveate.models import lookup
from foveate.models.visual_input import Tile, find_runs, make_visual_input, tile_runs, tile_squares
from foveate.runtime.conversation import make_chat_inputs
from foveate.runtime.load import load
from foveate.viz.paint import TokenState
from foveate.viz.panels import make_panels
from tiled import MORE_TILED, TILED as FOLDERS, tiled_folder
from viz.drawing import WHITE, draw_bare, halves, pixels, ramp
from viz.golden.write import make_item, make_report, mark_overview

NEVER = {  # families whose visual tokens form no raster
    "aria", "deepseek_ocr2", "florence2", "idefics", "idefics2", "inkling_mm_model", "llama4", "mllama", "molmo2",
    "unlimited_ocr",
}  # fmt: skip


# The processors get images whose colours are coordinates, red across and green down; blue tells them from padding.


def idefics(name):
    def tiles(image):
        module = pytest.importorskip(f"transformers.models.{name}.image_processing_pil_{name}")
        kind = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}[name]
        settings = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 16}, "do_normalize": False}
        return getattr(module, f"{kind}ImageProcessorPil")(**settings)(image, return_tensors="np")["pixel_values"][0]

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
    inputs = processor(image, return_tensors="np")
    sizes = inputs["target_sizes"].tolist()
    ends = np.cumsum([2 * h * w for h, w in sizes])[:-1]
    strips = np.split(inputs["pixel_values"][0], ends, -1)
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
    at = 0 if family.traits.overview == "first" else count - 1
    for number, middle in enumerate(middles):
        item = make_item(range(4 * number, 4 * number + 4), mark_overview(tile_squares(count, 2), at))
        out = pixels(draw_bare(Image.new("RGB", size, "white"), make_report(item)))
        half, other = halves(out)[:: -1 if number == at else 1]
        assert other.max() < 245
        rows, columns = np.nonzero(half.min(-1) > 245)
        where = np.array([(columns.mean() + 0.5) / half.shape[1], (rows.mean() + 0.5) / half.shape[0]])
        assert np.abs(where - middle.mean((1, 2))).max() < 0.04


# No raster, no known layout, tiles only on request, and a processor that takes one image.
NOT_DRAWN = {"idefics2", "ovis2", "gemma3", "got_ocr2"}


@pytest.mark.parametrize("name", sorted({*FOLDERS, *MORE_TILED} - NOT_DRAWN))
def test_a_tiled_image_is_drawn_as_one(name, tmp_path):
    """Two images of a prompt, through the real processor: every kept token has a bright cell over its image."""
    if name not in lookup.available():
        pytest.skip("not in this transformers")
    loaded = load(str(tiled_folder(name, tmp_path)))
    images = [ramp(96, 40), ramp(64, 64)]
    inputs = make_chat_inputs(loaded, [{"role": "user", "content": [{"type": "image"}] * 2}], images)
    with pytest.warns(FoveateWarning, match="no question"):
        report = foveate.prune_inputs(loaded.model, inputs, keep=0.4).report
    assert [item.index for item in report.items] == [0, 1]
    groups = make_panels(images, report, loaded.processor, None)
    for n, (item, panels) in enumerate(zip(report.items, groups, strict=True)):
        assert len(panels) == 1 + (len(item.tiles) > 1)
        tokens = {token for tile in item.tiles for token in tile.tokens()}
        kept = [state for panel in panels for state in panel.states if state is not TokenState.DROPPED]
        assert len(kept) == len(tokens & set(item.kept.tolist())) > 0
        assert max(draw_bare(images[n], report, item=n).size) >= 512 * (len(panels) > 1)
    assert any(len(item.tiles) > 1 for item in report.items)


@pytest.mark.parametrize("size", [(96, 40), (40, 96), (90, 61), (64, 64), (47, 61), (200, 64)])
@pytest.mark.parametrize("model_type", ["llava_next", "llava_onevision", "granite4_vision"])
def test_joined_tiles_without_their_padding_cover_the_image(model_type, size):
    """The tokens' own mean colours, packed by the stock model, are the places of the cells that they are drawn in."""
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    if model_type not in lookup.available():
        pytest.skip("not in this transformers")
    family = lookup.family(model_type)
    model = make_tiny_model(family)
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
    protected = (tokens == newline).all(-1)
    item = make_visual_input("image", 0, torch.arange(len(tokens)), 0, tokens)
    tiles = family.find_tiles(config, {}, dataclasses.replace(item, protected=protected))
    assert sorted(t for tile in tiles for t in tile.tokens()) == (~protected).nonzero().squeeze(1).tolist()
    assert [len(tiles), (tiles[0].rows, tiles[0].columns)] == [2, (across, across)]
    for tile in tiles:
        for cell, token in enumerate(tile.tokens()):
            row, column = divmod(cell, tile.columns)
            where = torch.tensor([(column + 0.5) / tile.columns, (row + 0.5) / tile.rows])
            step = torch.tensor([1 / tile.columns, 1 / tile.rows])
            came_from = tokens[token, :2] / tokens[token, 2]  # of the part that is no padding
            assert bool(((came_from - where).abs() < 0.6 * step + 0.02).all()), (tile, cell)


def _tokens_across(model_type, config):
    side = config.vision_config.image_size // config.vision_config.patch_size
    if model_type != "granite4_vision":
        return side
    fewer, of = map(int, config.downsample_rate.split("/"))
    return side * fewer // of


@pytest.mark.parametrize("model_type", lookup.available())
def test_every_family_is_drawn_or_says_why_not(model_type):
    """The tiles hold every token that may be dropped, exactly once; and a report of the tiny model can be drawn."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    visual = tuple(m for m in family.traits.modalities if m != "audio")
    with torch.no_grad():
        inputs = make_batch(model, family, [((visual[0],) * 2, 4), (visual, 4)])
        report = foveate.prune_inputs(model, inputs, keep=0.4, explain=True).report
    for n, item in enumerate(report.items):
        assert item.core.shape == item.kept.shape
        if not item.tiles:
            expected = "no raster" if item.modality != "audio" else "holds no"
            assert model_type in NEVER or (model_type, item.modality) == ("video_llava", "video")
            with pytest.raises(InputError, match=expected):
                draw(WHITE, report, item=n)
            continue
        tokens = [token for tile in item.tiles for token in tile.tokens()]
        if item.modality == "image" and len(item.tiles) > 1 and not any(tile.overview for tile in item.tiles):
            assert model_type == "ovis2"  # whose stock processor may lay out tiles the wrong way round
            with pytest.raises(InputError, match="How this model's tiles lie over the image is unknown"):
                draw(WHITE, report, item=n)
            continue
        assert len(set(tokens)) == len(tokens) <= item.total
        left_out = set(range(item.total)) - set(tokens)
        assert left_out <= set(item.kept.tolist())  # protected tokens
        assert item.relevance is None or bool(item.relevance[sorted(left_out)].isnan().all())
        images = [WHITE] * (len(item.tiles) if item.modality == "video" else 1)
        out = draw(images, report, item=n)
        assert max(out.size) >= 512


@pytest.mark.parametrize(
    ("model_type", "count", "tiles"),
    [
        ("internvl", 16, tile_squares(1, 4)),
        ("internvl", 48, tile_squares(3, 4)),
        ("internvl", 50, ()),
        ("llava_onevision", 17, (Tile(0, 4, 4, 4, padded=True),)),
        ("llava_next", 17, ()),
        ("emu3", 5, (Tile(0, 1, 4, 4),)),
    ],
)
def test_tiles_without_a_grid(model_type, count, tiles):
    family = lookup.family(model_type)
    protected = None if model_type == "internvl" else torch.arange(count) == count - 1
    item = make_visual_input("image", 0, torch.arange(count), 0, torch.zeros(count, 1))
    item, config = dataclasses.replace(item, protected=protected), to_tiny_family(family).make_config()
    inputs = {"input_ids": torch.full((1, count), family.token_id(config))}
    assert family.find_tiles(config, inputs, item) == tiles


def test_uneven_rows_are_no_raster():
    for protected in ([0, 0, 1, 0, 1], [0, 0, 1, 1, 0, 0, 1, 0, 0, 1], [1, 1]):
        assert tile_runs(find_runs(torch.tensor(protected, dtype=torch.bool))) == ()
