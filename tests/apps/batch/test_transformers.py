"""Batched answers are those of the library, row by row."""

import json
import pickle
from dataclasses import asdict

import pytest
import torch
from PIL import Image

import foveate
from apps.batch.drawn import draw, library, settings
from foveate.apps.batch.engines import open_engine
from foveate.apps.encoder import parse_encode
from foveate.errors import FoveateError, ModelError
from foveate.models import family_of, lookup
from foveate.runtime.conversation import make_inputs
from foveate.runtime.files import open_image
from foveate.runtime.load import load
from foveate.runtime.load_options import LoadOptions
from policies import make_policy
from tiled import TILED, tiled_folder
from tiny import tiny_folder

# GOT-OCR2 has no chat template, and its processor takes no list of images for each row.
NAMES = [name for name in TILED if name in lookup.available() and name != "got_ocr2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def rows(folder):
    return draw(folder, 3)


def get_replies(engine, folder, rows):
    replies = engine.answer([open_image(folder / row["image"]) for row in rows], [row["question"] for row in rows])
    return [(reply.answer, reply.kept, reply.total) for reply in replies]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "divprune", "keep": 40},
        {"model": "bundled-qwen", "keep": 0.3, "positions": "compact"},
    ],
)
def test_it_is_prune_inputs_and_generate(folder, rows, changes):
    chosen = settings(**changes)
    engine = open_engine(chosen)
    expected = library(folder, rows, chosen.model, chosen.keep, chosen.method, chosen.positions)
    assert get_replies(engine, folder, rows) == expected
    assert all(0 < kept < total for _, kept, total in expected)


def test_images_of_many_sizes(folder, tmp_path):
    rows = []
    for i, size in enumerate([(120, 80), (300, 40), (64, 64)]):
        Image.new("RGB", size, "red").save(folder / f"size-{i}.png")
        rows.append({"image": f"size-{i}.png", "question": "what color is it?" + " or not" * i})
    model = str(tiny_folder("qwen2_5_vl", tmp_path))
    engine = open_engine(settings(model=model, keep=0.25))
    expected = library(folder, rows, model, 0.25)
    assert get_replies(engine, folder, rows) == expected
    assert len({total for _, _, total in expected}) > 1


@pytest.mark.parametrize("keep", [0.25, 3])
@pytest.mark.parametrize("name", NAMES)
def test_all_tiles_of_an_image_are_counted(folder, tmp_path, name, keep):
    rows = []
    for i, size in enumerate([(96, 64), (40, 90), (30, 30)]):
        Image.effect_noise(size, 90).convert("RGB").save(folder / f"tiled-{i}.png")
        rows.append({"image": f"tiled-{i}.png", "question": "what color is it?" + " or not" * i})
    model = str(tiled_folder(name, tmp_path))
    expected = library(folder, rows, model, keep)
    assert get_replies(open_engine(settings(model=model, keep=keep)), folder, rows) == expected
    loaded = load(model)
    for row, (_, kept, total) in zip(rows, expected, strict=True):
        inputs = make_inputs(loaded, [open_image(folder / row["image"])], [row["question"]])
        assert total == family_of(loaded.model).placeholders(loaded.model.config, inputs).sum() > kept


def test_a_method_inside_the_decoder(folder, rows):
    engine = open_engine(settings(method="fastv", keep=50))
    assert [(kept, total) for _, kept, total in get_replies(engine, folder, rows)] == [(50, 576)] * 3


def test_a_policy_chooses_for_each_row(folder, rows, tmp_path):
    """As in the library, in batches as row by row; a reply has the number and the reason."""
    model = str(tiny_folder("qwen2_5_vl", tmp_path))
    policy = make_policy(load(model).model, price=1.0, mean=32.0)
    engine = open_engine(pickle.loads(pickle.dumps(settings(model=model, keep=policy))))
    sizes = [(64, 64), (300, 200), (120, 80)]
    images = [Image.effect_noise(size, 90).convert("RGB") for size in sizes]
    replies = engine.answer(images, ["what color is it?"] * 3)
    for image, reply in zip(images, replies, strict=True):
        inputs = make_inputs(load(model), [image], ["what color is it?"])
        (item,) = foveate.prune_inputs(load(model).model, inputs, keep=policy).report.items
        assert (reply.kept, reply.total, reply.reason) == (len(item.kept), item.total, item.reason)
        assert "estimated risk" in reply.reason
    assert len({reply.kept / reply.total for reply in replies}) > 1
    assert [reply.reason for reply in open_engine(settings(model=model)).answer(images, ["?"] * 3)] == [None] * 3


def test_notes_of_a_policy_are_about_the_rows(folder, rows, tmp_path):
    """Not about the image that the engine is tried on, which is no row."""
    model = str(tiny_folder("qwen2_5_vl", tmp_path))
    for high, size, count in ((30.0, (300, 200), 0), (30.0, (64, 64), 1), (1e9, (64, 64), 0)):
        policy = make_policy(load(model).model, high=high)
        engine = open_engine(settings(model=model, keep=policy))
        assert not [note for note in engine.notes if "promise" in note]
        image = Image.new("RGB", size, "red")
        engine.answer([image] * 2, ["what color is it?"] * 2)
        assert len([note for note in engine.notes if "promise may not hold here (tokens 36" in note]) == count


@pytest.mark.parametrize("name", ["internvl", "llava_next"])
def test_some_tiles_of_each_row(tmp_path, name):
    """As in the library, in batches as row by row; the worker gets the settings pickled."""
    model, some = str(tiled_folder(name, tmp_path)), parse_encode("0.6")
    engine = open_engine(pickle.loads(pickle.dumps(settings(model=model, keep=0.3, encoder=some))))
    assert not [note for note in engine.notes if "one tile" in note]  # that is about the probe
    images = [Image.effect_noise(size, 90).convert("RGB") for size in ((90, 90), (96, 32), (32, 96))]
    replies = engine.answer(images, ["what color is it?"] * 3)
    for image, reply in zip(images, replies, strict=True):
        inputs = make_inputs(load(model), [image], ["what color is it?"])
        (item,) = foveate.prune_inputs(load(model).model, inputs, keep=0.3, encode=0.6).report.items
        assert (reply.kept, reply.total, reply.encoded) == (len(item.kept), item.total, round(item.encoded_share, 4))
    assert max(reply.encoded for reply in replies) <= 0.6
    whole = open_engine(settings(model=model, keep=0.3)).answer(images, ["what color is it?"] * 3)
    assert [reply.encoded for reply in whole] == [1.0] * 3


def test_an_image_of_one_tile_is_noted(tmp_path):
    engine = open_engine(settings(model=str(tiled_folder("internvl", tmp_path)), encoder=parse_encode("0.6")))
    (reply,) = engine.answer([Image.new("RGB", (30, 30), "red")], ["what color is it?"])
    assert reply.encoded == 1.0
    assert len([note for note in engine.notes if "An image of one tile was encoded whole" in note]) == 1


def test_auto_without_a_policy_is_refused_at_once(tmp_path):
    with pytest.raises(FoveateError, match="none comes with it: make one with foveate calibrate"):
        open_engine(settings(model=str(tiny_folder("llava", tmp_path)), keep="auto"))


def test_notes_are_about_the_rows(folder, rows, tmp_path):
    engine = open_engine(settings(model=str(tiny_folder("llava", tmp_path)), keep=99))
    before = list(engine.notes)
    get_replies(engine, folder, rows)
    get_replies(engine, folder, rows)
    assert [note for note in engine.notes if note not in before] == [
        "keep=99 keeps all: the image has only 16 visual tokens."
    ]


def test_what_the_model_cannot_do_is_an_error_at_once(tmp_path):
    folder = tiny_folder("qwen2_5_vl", tmp_path)
    with pytest.raises(FoveateError, match="visionzip"):
        open_engine(settings(model=str(folder), method="visionzip"))
    (folder / "chat_template.json").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        open_engine(settings(model=str(folder)))


def test_the_options_of_load_reach_the_worker(folder, rows):
    """As they do on a cluster: pickled, and written down as JSON."""
    own = settings(loading=LoadOptions(dtype="bfloat16", device_map={"": "cpu"}, attention="eager"))
    assert json.loads(json.dumps(asdict(own)))["loading"]["device_map"] == {"": "cpu"}
    engine = open_engine(pickle.loads(pickle.dumps(own)))
    model = engine._loaded.model
    assert (model.dtype, model.config._attn_implementation) == (torch.bfloat16, "eager")
    assert len(get_replies(engine, folder, rows)) == len(rows)


def test_options_that_the_worker_cannot_honour():
    with pytest.raises(FoveateError, match=r"attention 'fast' cannot be used"):
        open_engine(settings(loading=LoadOptions(attention="fast")))
