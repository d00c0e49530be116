"""Families whose encoder returns tiles, on tiny models with the markers of their processors."""

import dataclasses
from itertools import accumulate
from types import SimpleNamespace

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError, KeepError
from foveate.models import lookup
from foveate.models.kept import is_regrouped
from foveate.models.prompt_rows import starts_with
from foveate.models.tiling import TiledFamily, split_tokens
from foveate.pipeline.prune import prune_inputs

TILED = [name for name in lookup.available() if isinstance(lookup.family(name), TiledFamily)]
ONE_TILE = {"aria", "t5gemma2"}  # their examples do not cut images


def test_these_are_all():
    assert {"aya_vision", "cohere2_vision", "gemma3", "got_ocr2", "idefics2", "idefics3", "internvl"} <= set(TILED)
    assert {"aria", "lfm2_vl", "ovis2"} <= set(TILED)


@pytest.mark.parametrize("name", TILED)
@torch.no_grad()
def test_the_laws_see_images_of_several_tiles(name):
    family = lookup.family(name)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 5), (1, 9), (0, 4), (3, 3)])
    stock = family.encode(model, {key: value for key, value in inputs.items() if key != "input_ids"})
    report = prune_inputs(model, inputs, keep=2).report
    assert [(item.row, item.index) for item in report.items] == [(0, 0), (0, 1), (1, 2), (3, 3), (3, 4), (3, 5)]
    assert [len(item.kept) for item in report.items] == [2] * 6
    assert not any(item.is_part for item in report.items)
    assert (len(family.features(stock)) > 6) == (name not in ONE_TILE)


@torch.no_grad()
def test_crops_of_aria_in_one_run_may_be_images():
    model = make_tiny_model(lookup.family("aria"))
    pixels, token = torch.randn(2, 3, 32, 32), model.config.image_token_id
    inputs = {"input_ids": torch.tensor([[20, *[token] * 18, 21, 22]]), "pixel_values": pixels}
    with pytest.raises(KeepError, match="tells which tiles are one image"):
        prune_inputs(model, inputs, keep=3)
    report = prune_inputs(model, inputs, keep=0.5).report
    assert [(item.total, item.is_part) for item in report.items] == [(9, True)] * 2
    assert report.notes[-1].startswith("Nothing in these inputs tells which tiles are one image")
    inputs["input_ids"] = torch.tensor([[20, *[token] * 9, 21, *[token] * 9, 22, 23]])
    assert [len(item.kept) for item in prune_inputs(model, inputs, keep=3).report.items] == [3, 3]


@torch.no_grad()
def test_lfm2_without_its_special_tokens():
    """An image of one tile is a run; several tiles, or images, share one."""
    model = make_tiny_model(lookup.family("lfm2_vl"))
    family, config = lookup.family("lfm2_vl"), model.config
    inputs = make_batch(model, family, [(2, 5)])
    ids, token = inputs["input_ids"][0], config.image_token_id
    placeholders = int((ids == token).sum())
    inputs["input_ids"] = torch.tensor([[20, *[token] * placeholders, 21, 22]])
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with pytest.raises(KeepError, match="tells which tiles are one image"):
        prune_inputs(model, inputs, keep=3)
    report = prune_inputs(model, inputs, keep=0.5).report
    assert [item.grid for item in report.items] == [(1, 2, 2), (1, 2, 2), (1, 2, 3), (1, 3, 3)]
    alone = {key: inputs[key][3:] for key in ("pixel_values", "spatial_shapes", "pixel_attention_mask")}
    alone["input_ids"] = torch.tensor([[20, *[token] * 9, 21]])
    (item,) = prune_inputs(model, alone, keep=3).report.items
    assert (item.grid, len(item.kept), item.is_part) == ((1, 3, 3), 3, False)


# -- on tensors alone --------------------------------------------------------------------------------------------------

TOKEN, MARK = 9, 5  # a placeholder, and the id in front of the first tile of every image


class Marked(TiledFamily):
    """Tiles stand in runs of `TOKEN`, and `MARK` before the first of an image; `shapes` are as the inputs would say."""

    def __init__(self, shapes=None, size=None, *, joins_runs=False):
        super().__init__("marked")
        self.shapes, self.size, self.joins_runs = shapes, size, joins_runs

    def token_id(self, config, modality="image"):
        return TOKEN if modality == "image" else TOKEN + 1

    def find_starts(self, config, inputs, row):
        return starts_with(row, MARK)

    def tile_shapes(self, config, inputs, modality):
        return self.shapes

    def tile_size(self, config):
        return self.size


class Blind(Marked):
    """Reads no shapes and knows no starts: what the base class says."""

    find_starts, tile_shapes, tile_size = TiledFamily.find_starts, TiledFamily.tile_shapes, TiledFamily.tile_size


def write(rows, mark=True):
    """Ids of rows of images of tiles of so many tokens; the number 2 separates tiles, padding is 0."""
    ids = []
    for images in rows:
        row = [1]
        for tiles in images:
            row += [MARK] if mark else [2]
            for n, size in enumerate(tiles):
                row += [2] * (n > 0) + [TOKEN] * size
        ids.append([*row, 3])
    width = max(map(len, ids))
    return {"input_ids": torch.tensor([row + [0] * (width - len(row)) for row in ids])}


def output(sizes):
    """An encoder's output with an entry for each of these sizes, every token different from all others."""
    tokens = torch.arange(sum(sizes) * 2.0).view(-1, 2)
    return BaseModelOutputWithPooling(pooler_output=list(tokens.split(list(sizes))))


ROWS = [
    [[[4, 4], [4]], [], [[1, 4, 9]]], [[], [[4]], [[4, 4], [4, 4]]], [[[9]]], [[[4], [4], [4]], [[4, 4, 4]]],
]  # fmt: skip


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_images_have_the_tokens_of_all_of_their_tiles(rows):
    inputs, tiles = write(rows), [size for images in rows for image in images for size in image]
    expected = [sum(image) for images in rows for image in images]
    family = Marked()
    assert family.find_sizes(None, inputs, tiles, "image") == expected
    assert Blind().find_sizes(None, inputs, tiles, "image") == tiles  # every run is an image
    joined = family.join_tiles(None, inputs, output(tiles), "image")
    assert [len(tokens) for tokens in joined.pooler_output] == expected
    assert torch.equal(torch.cat(list(joined.pooler_output)), torch.cat(output(tiles).pooler_output))
    assert is_regrouped(joined)
    model = SimpleNamespace(config=None)
    for item in family.items(model, inputs, {"image": joined}, []):
        assert not item.is_part
        assert item.total == expected[item.index]


def test_images_keep_what_else_the_encoder_gave():
    extras = [{"keys": torch.ones(4, 2)}, {"keys": torch.zeros(9, 2)}]
    items = Marked().items(SimpleNamespace(config=None), write([[[4], [9]]]), {"image": output([4, 9])}, extras)
    assert [item.extras for item in items] == extras


def test_entries_of_the_encoder_must_end_where_runs_do():
    """A run of several entries is one image or several: that tells nothing, unless runs are known to be images."""
    inputs = write([[[8, 4], [4]], [[8]]])
    for sizes in ([8, 4, 4, 8], [12, 4, 8], [8, 8, 8], [24]):
        assert Marked().find_sizes(None, inputs, sizes, "image") == [12, 4, 8]
    for sizes in ([4, 4, 4, 4, 8], [8, 4, 4, 4, 4], [6, 6, 4, 8], [8, 4, 3, 9], [4, 20]):
        assert Marked().find_sizes(None, inputs, sizes, "image") is None
        assert Marked(joins_runs=True).find_sizes(None, inputs, sizes, "image") == [12, 4, 8]


def test_entries_that_were_joined_need_no_marks_later():
    """Such as those of a caller who hands encoded images on without what told them apart."""
    family, model = Marked(), SimpleNamespace(config=None)
    joined = family.join_tiles(None, write([[[4, 4], [4]]]), output([4, 4, 4]), "image")
    unmarked = write([[[4, 4], [4]]], mark=False)
    assert family.find_sizes(None, unmarked, [8, 4], "image") is None
    assert [item.is_part for item in family.items(model, unmarked, {"image": joined}, [])] == [False, False]


class Filmed(Marked):
    """The tiles of its videos have shapes of their own."""

    def tile_shapes(self, config, inputs, modality):
        return self.shapes[modality]


def test_videos_are_read_as_videos():
    family, model = Filmed({"image": [(2, 2), (2, 3)], "video": [(1, 2), (4, 1), (3, 2)]}), SimpleNamespace(config=None)
    image, video = [TOKEN], [TOKEN + 1]
    row = [1, MARK, *image * 4, MARK, *video * 2, 2, *video * 4, MARK, *image * 6, MARK, *video * 6, 3]
    inputs = {"input_ids": torch.tensor([row])}
    joined = family.join_tiles(None, inputs, output([2, 4, 6]), "video")
    outputs = {"image": output([4, 6]), "video": joined}
    assert family.find_sizes(None, inputs, [2, 4, 6], "video") == [6, 6]
    assert [len(tokens) for tokens in joined.pooler_output] == [6, 6]
    items = family.items(model, inputs, outputs, [])
    assert [(item.modality, item.total, item.is_part, item.grid) for item in items] == [
        ("image", 4, False, (1, 2, 2)), ("image", 6, False, (1, 2, 3)), ("video", 6, False, None),
        ("video", 6, False, (1, 3, 2)),
    ]  # fmt: skip
    tiles = [[(tile.rows, tile.columns, tile.tokens()) for tile in item.tiles] for item in items]
    assert tiles == [lay((2, 2)), lay((2, 3)), lay((1, 2), (4, 1)), lay((3, 2))]
    with pytest.raises(InputError, match="Video 0 of 1 makes 99 tokens but row 0 has 12 video placeholders"):
        family.grids(None, inputs, output([99]).pooler_output, "video")


@torch.no_grad()
def test_a_model_encodes_the_modality_that_is_wanted():
    family = lookup.family("minicpmv4_6")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("image", "video"), 5), (("video",), 4)])
    for modality in ("image", "video"):
        tokens = sum(map(len, family.features(family.encode(model, inputs, modality), modality)))
        assert tokens == int(family.placeholders(model.config, inputs, modality).sum())


def test_a_row_whose_marks_tell_nothing_leaves_all_entries_as_they_are():
    family, inputs = Marked(), write([[[4, 4]], [[4]]], mark=False)
    encoded = output([4, 4, 4])
    assert family.find_sizes(None, inputs, [4, 4, 4], "image") is None
    assert family.join_tiles(None, inputs, encoded, "image") is encoded
    assert family.join_tiles(None, {}, encoded, "image") is encoded
    assert family.find_sizes(None, write([[[4]], [[9]]], mark=False), [4, 9], "image") == [4, 9]  # one run is one image
    wrong = output([4, 4])  # a tile less than the prompt has: `items` says in which row
    assert family.join_tiles(None, write([[[4, 4], [4]]]), wrong, "image") is wrong


def test_tiles_that_may_be_of_one_image_are_parts_and_no_overview():
    family, model = Marked(), SimpleNamespace(config=None)
    family.traits = dataclasses.replace(family.traits, overview="last")
    unmarked, marked = write([[[4, 4]], [[4]]], mark=False), write([[[4, 4]], [[4]]])
    parts = family.items(model, unmarked, {"image": output([4, 4, 4])}, [])
    assert [(item.row, item.total, item.is_part) for item in parts] == [(0, 4, True), (0, 4, True), (1, 4, True)]
    assert [tile.overview for item in parts for tile in item.tiles] == [False] * 3
    unjoined = family.items(model, marked, {"image": output([4, 4, 4])}, [])  # a caller who encoded without the prompt
    assert all(item.is_part for item in unjoined)
    joined = family.join_tiles(None, marked, output([4, 4, 4]), "image")
    whole = family.items(model, marked, {"image": joined}, [])
    assert [(item.total, item.is_part) for item in whole] == [(8, False), (4, False)]
    assert [[tile.overview for tile in item.tiles] for item in whole] == [[False, True], [True]]
    single = family.items(model, write([[[4]], [[4]]]), {"image": output([4, 4])}, [])
    assert not any(item.is_part for item in single)
    both = {"image": output([4, 4, 4]), "video": output([6])}
    unmarked["input_ids"] = torch.cat([unmarked["input_ids"], torch.full((2, 6), TOKEN + 1)], dim=1)
    unmarked["input_ids"][0, -6:] = 0
    mixed = family.items(model, unmarked, both, [])
    assert [(item.modality, item.is_part) for item in mixed] == [("image", True)] * 3 + [("video", False)]


def place(family, rows, sizes):
    """The grid, and the (rows, columns, tokens) of the tiles, of each image of these sizes."""
    inputs = write(rows)
    items = family.items(SimpleNamespace(config=None), inputs, {"image": output(sizes)}, [])
    return [(item.grid, [(t.rows, t.columns, t.tokens()) for t in item.tiles]) for item in items]


def lay(*shapes):
    """One tile after the other: (rows, columns, tokens)."""
    starts = accumulate((rows * columns for rows, columns in shapes), initial=0)
    return [
        (rows, columns, list(range(start, start + rows * columns)))
        for (rows, columns), start in zip(shapes, starts, strict=False)
    ]


def test_tiles_lie_one_after_the_other():
    rows = [[[6, 4], [4]], [], [[8, 6, 1]]]
    shapes = [(2, 3), (1, 4), (2, 2), (2, 4), (3, 2), (1, 1)]
    expected = [
        (None, lay((2, 3), (1, 4))), ((1, 2, 2), lay((2, 2))), (None, lay((2, 4), (3, 2), (1, 1))),
    ]  # fmt: skip
    assert place(Marked(shapes), rows, [10, 4, 15]) == expected
    squares = [[[4, 9], [4]], [[16, 1, 4]]]
    expected = [(None, lay((2, 2), (3, 3))), ((1, 2, 2), lay((2, 2))), (None, lay((4, 4), (1, 1), (2, 2)))]
    assert place(Marked(), squares, [13, 4, 21]) == expected
    assert place(Blind(), squares, [13, 4, 21]) == expected
    run = [[[8], [4]], [[12]]]  # tiles of four tokens in one run
    expected = [(None, lay(*[(2, 2)] * 2)), ((1, 2, 2), lay((2, 2))), (None, lay(*[(2, 2)] * 3))]
    assert place(Marked(size=4), run, [8, 4, 12]) == expected


def test_tiles_that_do_not_fit_their_tokens_are_not_drawn():
    nothing = (None, [])
    assert place(Marked(), [[[4, 5], [4]]], [9, 4]) == [nothing, ((1, 2, 2), lay((2, 2)))]
    assert place(Marked(size=4), [[[9], [4]]], [9, 4]) == [nothing, ((1, 2, 2), lay((2, 2)))]
    assert place(Marked(size=6), [[[6]]], [6]) == [nothing]
    assert place(Marked([(2, 2), (2, 4), (2, 2)]), [[[4, 9], [4]]], [13, 4]) == [nothing] * 2  # a tile is too short
    assert place(Marked([]), [[[4]]], [4]) == [nothing]


def test_without_a_raster_or_a_prompt_there_are_no_grids():
    family = Marked()
    features = output([4, 9]).pooler_output
    assert family.grids(None, write([[[4], [9]]]), features) == [(1, 2, 2), (1, 3, 3)]
    assert family.grids(None, {}, features) == [None, None]
    family.traits = dataclasses.replace(family.traits, raster=False)
    assert family.grids(None, write([[[4], [9]]]), features) == [None, None]
    assert place(family, [[[4], [9]]], [4, 9]) == [(None, [])] * 2


def test_tokens_are_split_into_entries_of_these_sizes():
    tokens = torch.arange(12.0).view(6, 2)
    parts = split_tokens([tokens[:1], tokens[1:5], tokens[5:]], (2, 0, 4))
    assert isinstance(parts, list)
    assert [part.tolist() for part in parts] == [tokens[:2].tolist(), [], tokens[2:].tolist()]
