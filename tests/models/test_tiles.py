"""An image is what the user passed in, however many tiles the encoder sees."""

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.runtime.load import load
from tiled import TILED, tiled_folder

SIZES = ((96, 64), (40, 90), (30, 30))  # (width, height); one after the other, without words between


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


def conversation(count, text="what color is the star"):
    return [{"role": "user", "content": [*[{"type": "image"}] * count, {"type": "text", "text": text}]}]


def inputs_of(loaded, sizes=SIZES):
    """What the processor makes of images of these sizes, one after the other in one prompt."""
    text = loaded.processor.apply_chat_template(conversation(len(sizes)), add_generation_prompt=True, tokenize=False)
    images = [image(number, size) for number, size in enumerate(sizes)]
    return loaded.processor(images=images, text=[text], return_tensors="pt")


@pytest.mark.parametrize("name", TILED)
@torch.no_grad()
def test_folders_load_and_answer(loaded, name):
    model = loaded(name)
    inputs = inputs_of(model)
    length = inputs["input_ids"].shape[1]
    assert model.model.generate(**inputs, max_new_tokens=2, min_new_tokens=2).shape[1] == length + 2
