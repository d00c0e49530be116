"""An image is what the user passed in, however many tiles the encoder sees."""

import numpy as np
import pytest
import torch
from PIL import Image

import foveate
from foveate.errors import InputError, KeepError
from foveate.models import family_of, lookup
from foveate.pipeline.prune import prune_inputs
from foveate.pipeline.question import LEARNED
from foveate.runtime.load import load
from tiled import CALLS, MORE_TILED, TILED, tiled_folder

SIZES = ((96, 64), (40, 90), (30, 30), (200, 50))  # (width, height); one after the other, without words between
NAMES = tuple(name for name in (*TILED, *MORE_TILED) if name in lookup.available())
JOINED = tuple(name for name in NAMES if name != "llava_next")  # the encoder returns tiles
FLAT = ("idefics2",)  # tokens that lie on no raster


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    kept = {}

    def once(name):
        if name not in kept:
            kept[name] = load(str(tiled_folder(name, tmp_path_factory.mktemp(name))))
        return kept[name]

    return once


def image(number, size):
    return Image.fromarray(np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def conversation(*parts):
    """One turn of the user: None stands for an image, anything else is text."""
    content = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in parts]
    return [{"role": "user", "content": content}]


def inputs_of(loaded, name, sizes=SIZES, rows=None, **more):
    """What the processor makes of images of these sizes, one after the other in one prompt, or as `rows` say."""
    rows = rows or [(*[None] * len(sizes), "what color is the star")]
    apply = loaded.processor.apply_chat_template
    texts = [apply(conversation(*parts), add_generation_prompt=True, tokenize=False) for parts in rows]
    images = [image(number, size) for number, size in enumerate(sizes)]
    if len(rows) > 1:
        counts = [parts.count(None) for parts in rows]
        firsts = [sum(counts[:n]) for n in range(len(counts))]
        nested = [images[first : first + count] for first, count in zip(firsts, counts, strict=True)]
        images = images if name in ("got_ocr2", "minicpmv4_6") else nested
        more |= {"padding": True}
    settings = {**CALLS.get(name, {}), **more}
    return loaded.processor(images=images or None, text=texts, return_tensors="pt", **settings)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_folders_load_and_answer(loaded, name):
    model = loaded(name)
    inputs = inputs_of(model, name)
    length = inputs["input_ids"].shape[1]
    assert model.model.generate(**inputs, max_new_tokens=2, min_new_tokens=2).shape[1] == length + 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1], SIZES[2:3], (SIZES[2], SIZES[0]), (SIZES[1],) * 3], ids=str)
@torch.no_grad()
def test_one_item_for_each_image_in_a_row(loaded, name, sizes):
    model = loaded(name).model
    inputs = inputs_of(loaded(name), name, sizes)
    placeholders = int(family_of(model).placeholders(model.config, inputs).sum())
    report = prune_inputs(model, inputs, keep=3).report
    assert [item.index for item in report.items] == list(range(len(sizes)))
    assert [len(item.kept) for item in report.items] == [3 + fixed(item) for item in report.items]
    assert sum(item.total for item in report.items) == placeholders == report.total_count
    assert not any(item.is_part for item in report.items)
    assert report.notes == ()


def fixed(item):
    return 0 if item.protected is None else int(item.protected.sum())


@pytest.mark.parametrize("name", JOINED)
@torch.no_grad()
def test_tiles_cover_an_image_in_order(loaded, name):
    model = loaded(name).model
    report = prune_inputs(model, inputs_of(loaded(name), name), keep=0.5).report
    for item, size in zip(report.items, SIZES, strict=True):
        if name in FLAT:
            assert item.tiles == ()
            assert item.grid is None
            continue
        assert [token for tile in item.tiles for token in tile.tokens()] == list(range(item.total))
        overviews = [n for n, tile in enumerate(item.tiles) if tile.overview]
        first = {"first": [0], "last": [len(item.tiles) - 1], "": []}
        assert overviews == first[family_of(model).traits.overview]
        alone = item.tiles[0]
        assert item.grid == ((1, alone.rows, alone.columns) if len(item.tiles) == 1 else None)
        assert (len(item.tiles) > 1) == (size != (30, 30) or name in ("idefics3", "smolvlm"))  # these scale up first


@pytest.mark.parametrize("name", JOINED)
@torch.no_grad()
def test_batches_of_rows_with_more_and_fewer_images(loaded, name):
    model = loaded(name)
    rows = [(None, "how many are there", None, "what color"), ("what color is the star",), (None, "what shape")]
    if name == "gemma3":
        del rows[1]  # its processor wants an image in every prompt
    inputs = inputs_of(model, name, (SIZES[0], SIZES[2], SIZES[1]), rows)
    report = prune_inputs(model.model, inputs, keep=4).report
    assert [item.row for item in report.items] == [0, 0, len(rows) - 1]
    assert [len(item.kept) for item in report.items] == [4, 4, 4]
    alone = prune_inputs(model.model, inputs_of(model, name, (SIZES[0], SIZES[2]), rows[:1]), keep=4).report
    assert [item.total for item in alone.items] == [item.total for item in report.items[:2]]
    for one, other in zip(alone.items, report.items, strict=False):
        assert one.tiles == other.tiles
        assert torch.equal(one.kept, other.kept)


@pytest.mark.parametrize("name", JOINED)
@torch.no_grad()
def test_joined_tiles_change_no_logits(loaded, name):
    model = loaded(name).model
    inputs = inputs_of(loaded(name), name)
    short = prune_inputs(model, inputs, keep=1.0)
    torch.testing.assert_close(model(**short).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)
    out = model.generate(**prune_inputs(model, inputs, keep=3), max_new_tokens=2, min_new_tokens=2, num_beams=2)
    assert out.shape[1] > 2


@pytest.mark.parametrize("name", JOINED)
@torch.no_grad()
def test_encoded_before_or_by_the_caller(loaded, name):
    """Once by `foveate.encode`, once by the model's own method; pixels may be gone afterwards."""
    model = loaded(name).model
    inputs = inputs_of(loaded(name), name, SIZES[:2])
    report = prune_inputs(model, inputs, keep=3).report
    encoded, family = foveate.encode(model, inputs), family_of(model)
    words = {k: v for k, v in inputs.items() if k not in {"pixel_values", *family.encoder_inputs(model, inputs)}}
    again = prune_inputs(model, words, keep=3, encoded=encoded).report
    stock = model.base_model.get_image_features(**family.encoder_inputs(model, inputs), return_dict=True)
    needs_pixels = name in ("gemma3", "got_ocr2", "idefics2")
    if needs_pixels:
        with pytest.raises(KeepError, match="tells which tiles are one image"):
            prune_inputs(model, {**words, "mm_encoder_outputs": {"image": stock}}, keep=3)
    ready = prune_inputs(model, {**words, "mm_encoder_outputs": {"image": stock}}, keep=0.5).report
    assert any(item.is_part for item in ready.items) == needs_pixels
    assert len(ready.items) == (2 if not needs_pixels else len(stock.pooler_output) if name != "idefics2" else 10)
    for one, other in zip(report.items, again.items, strict=True):
        assert torch.equal(one.kept, other.kept)


@pytest.fixture
def by_hand(loaded, monkeypatch):
    """The folder's model, told that its prompts are written by hand, without the chat template."""

    def prepare(name):
        monkeypatch.setattr(loaded(name).model, LEARNED, {})
        return loaded(name)

    return prepare


@pytest.mark.parametrize("name", JOINED)
@torch.no_grad()
def test_without_marks_an_int_is_refused(by_hand, loaded, name):
    """Prompts made by hand, with text between the tiles where a processor has marks, or with nothing."""
    model, family = by_hand(name).model, family_of(loaded(name).model)
    inputs = dict(inputs_of(loaded(name), name, SIZES[:2]))
    sizes = [len(tokens) for tokens in stock_features(model, family, inputs)]
    token = family.token_id(model.config)
    ids = [20, 21, *(one for n, size in enumerate(sizes) for one in (*[token] * size, 30 + n))]
    inputs["input_ids"], inputs["attention_mask"] = torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long)
    inputs.pop("token_type_ids", None)
    if name in ("internvl", "got_ocr2", "gemma3"):
        assert len(prune_inputs(model, inputs, keep=2).report.items) == len(sizes)  # each run is an image
        return
    with pytest.raises(KeepError, match="tells which tiles are one image"):
        prune_inputs(model, inputs, keep=2)
    report = prune_inputs(model, inputs, keep=0.5).report
    assert [item.total for item in report.items] == sizes
    assert all(item.is_part for item in report.items)
    assert any("tiles" in note for note in report.notes)
    kept = prune_inputs(model, inputs, keep=2 * len(sizes), per="prompt").report
    assert kept.kept_count == 2 * len(sizes)


def stock_features(model, family, inputs):
    """The encoder's own entries."""
    without = {name: value for name, value in inputs.items() if name != "input_ids"}
    return family.features(family.encode(model, without))


@torch.no_grad()
def test_a_prompt_of_one_tile_needs_no_mark(by_hand):
    model = by_hand("idefics3").model
    family = family_of(model)
    tile = torch.randn(1, 1, 3, 32, 32)
    ids = torch.tensor([[20, *[family.token_id(model.config)] * 16, 21, 22]])
    (item,) = prune_inputs(model, {"input_ids": ids, "pixel_values": tile}, keep=2).report.items
    assert len(item.kept) == 2
    assert not item.is_part


@torch.no_grad()
def test_tiles_are_no_frames(loaded):
    """Tiles that look alike are no repeats, and per="frame" means an image as a whole."""
    model = loaded("internvl")
    inputs = inputs_of(model, "internvl", SIZES[:1])
    inputs["pixel_values"] = inputs["pixel_values"][:1].repeat(len(inputs["pixel_values"]), 1, 1, 1)
    for per in ("image", "frame"):
        (item,) = prune_inputs(model.model, inputs, keep=item_size(inputs), per=per, method="grid").report.items
        assert len(item.kept) == item_size(inputs)


def item_size(inputs):
    return 16 * (len(inputs["pixel_values"]) - 1)


@torch.no_grad()
def test_frames_of_a_video_are_images_of_smolvlm(by_hand):
    """Its processor marks every frame as an image of one tile."""
    model, processor = by_hand("smolvlm").model, by_hand("smolvlm").processor
    frame = processor.fake_image_token + processor.global_image_token + processor.image_token * 16
    text = "".join(f"\nFrame from 00:0{n}:{frame}{processor.fake_image_token}" for n in range(3))
    ids = processor.tokenizer(f"You see three frames{text}\n\nwhat color", return_tensors="pt")
    inputs = {**ids, "pixel_values": torch.randn(1, 3, 3, 32, 32)}
    report = prune_inputs(model, inputs, keep=5).report
    assert [(item.modality, item.total, len(item.kept)) for item in report.items] == [("image", 16, 5)] * 3


@torch.no_grad()
def test_numbers_that_do_not_match_name_the_row(loaded):
    model = loaded("aya_vision")
    inputs = inputs_of(model, "aya_vision", SIZES[:2])
    inputs["pixel_values"] = inputs["pixel_values"][:-1]
    with pytest.raises(InputError, match="placeholders more than its images"):
        prune_inputs(model.model, inputs, keep=2)


@pytest.mark.parametrize("split", [True, False])
@torch.no_grad()
def test_pages_and_tiles_of_got_ocr(by_hand, split):
    """Five images in one run are five pages, unless the last shows the others."""
    model = by_hand("got_ocr2").model
    tiles = torch.randn(4, 3, 64, 64)
    mosaic = torch.cat([torch.cat([tiles[0], tiles[1]], -1), torch.cat([tiles[2], tiles[3]], -1)], -2)
    last = torch.nn.functional.avg_pool2d(mosaic, 2) if split else torch.randn(3, 64, 64)
    ids = torch.tensor([[301, *[model.config.image_token_id] * 80, 302, 20, 21]])
    inputs = {"input_ids": ids, "pixel_values": torch.stack([*tiles, last])}
    report = prune_inputs(model, inputs, keep=3).report
    assert [len(item.kept) for item in report.items] == ([3] if split else [3] * 5)
    blank = {**inputs, "pixel_values": torch.ones(5, 3, 64, 64)}
    with pytest.raises(KeepError, match="tells which tiles are one image"):
        prune_inputs(model, blank, keep=3)


@torch.no_grad()
def test_five_images_of_idefics2_without_text_between_are_no_split_image(loaded):
    model = loaded("idefics2")
    model.processor.image_processor.do_image_splitting = False
    try:
        inputs = inputs_of(model, "idefics2", ((40, 40),) * 5)
    finally:
        model.processor.image_processor.do_image_splitting = True
    report = prune_inputs(model.model, inputs, keep=3).report
    assert [len(item.kept) for item in report.items] == [3] * 5
