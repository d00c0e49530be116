"""One rule for transparent images, whichever way they come in: on white."""

import io

import pytest
import torch
from PIL import Image

import foveate
from foveate.apps.ask import ask
from foveate.apps.batch.source import BatchQuestion
from foveate.apps.evaluate.data import read_data
from foveate.apps.serve.images import decode_images
from foveate.runtime.conversation import make_chat_inputs, make_inputs
from foveate.runtime.files import open_image
from foveate.runtime.load import load
from tiled import tiled_folder
from tiny import tiny_folder

QUESTION = "what color is it?"


@pytest.fixture(scope="module")
def image():
    """Black on transparent black, as in many diagrams: blind, if transparency is dropped."""
    drawn = Image.new("RGBA", (56, 56), (0, 0, 0, 0))
    drawn.paste((0, 0, 0, 255), (10, 10, 30, 40))
    return drawn


@pytest.fixture(scope="module")
def on_white(image):
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl", "idefics3", "internvl"])
def loaded(request, tmp_path_factory):
    make = tiled_folder if request.param in ("idefics3", "internvl") else tiny_folder
    return load(str(make(request.param, tmp_path_factory.mktemp(request.param))))


def assert_same_pixels(inputs, expected):
    assert torch.equal(inputs["pixel_values"], expected["pixel_values"])
    assert torch.equal(inputs["input_ids"], expected["input_ids"])


def test_stock_processors_blacken(loaded, image, on_white):
    """When this fails, processors put transparency on white themselves, and the rule here is no longer needed."""
    text = [loaded.processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    )]  # fmt: skip
    dropped, white = (
        loaded.processor(text=text, images=[[each]], return_tensors="pt") for each in (image.convert("RGB"), on_white)
    )
    assert not torch.equal(dropped["pixel_values"], white["pixel_values"])


def test_images_in_memory(loaded, image, on_white):
    expected = make_inputs(loaded, [on_white], [QUESTION])
    assert_same_pixels(make_inputs(loaded, [image], [QUESTION]), expected)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    assert_same_pixels(make_chat_inputs(loaded, turns, [image]), make_chat_inputs(loaded, turns, [on_white]))


def test_ask(loaded, image, on_white):
    one, other = (ask(loaded, each, QUESTION, keep=0.5, method="grid", max_new_tokens=3) for each in (image, on_white))
    assert (one.answer, one.answer_unpruned) == (other.answer, other.answer_unpruned)


def test_files_and_bytes(image, on_white, tmp_path):
    """What `ask`, `eval`, `batch`, `serve` and the page read."""
    path = tmp_path / "image.png"
    image.save(path)
    data = io.BytesIO()
    image.save(data, "PNG")
    (tmp_path / "rows.jsonl").write_text('{"image": "image.png", "question": "what?", "answer": "a"}')
    examples, _ = read_data(tmp_path / "rows.jsonl", 1)
    for read in (
        open_image(path), examples[0].image(), *decode_images([data.getvalue()]),
        BatchQuestion(QUESTION, path).open_image(), BatchQuestion(QUESTION, data.getvalue()).open_image(),
    ):  # fmt: skip
        assert read == on_white


def test_draw(loaded, image, on_white):
    report = foveate.prune_inputs(loaded.model, make_inputs(loaded, [image], [QUESTION]), keep=4).report
    assert foveate.draw(image, report) == foveate.draw(on_white, report)
    assert foveate.draw(image, report, processor=loaded.processor) == foveate.draw(
        on_white, report, processor=loaded.processor
    )
