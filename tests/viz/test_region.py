"""The region of an image that reaches the model."""

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from foveate.viz import visible_region
from viz.drawing import ramp


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
    drawn = np.asarray(part.resize((crop, crop), Image.Resampling.BICUBIC)).astype(float)
    inner = slice(6, -6)
    assert np.abs(drawn - model_sees)[inner, inner].max() < 6


@pytest.mark.parametrize("size", [(90, 40), (40, 90), (64, 64)])
@pytest.mark.parametrize("name", ["Llava", "DeepseekVL", "Janus"])
def test_visible_region_is_what_processors_that_pad_make_of_an_image(name, size):
    module = {"Llava": "llava", "DeepseekVL": "deepseek_vl", "Janus": "janus"}[name]
    kind = getattr(
        pytest.importorskip(f"transformers.models.{module}.image_processing_pil_{module}"), f"{name}ImageProcessorPil"
    )
    square = {"height": 32, "width": 32}
    more = {"size": {"shortest_edge": 32}, "crop_size": square, "do_pad": True} if name == "Llava" else {"size": square}
    processor = kind(do_normalize=False, **more)
    model_sees = np.asarray(processor(ramp(*size), return_tensors="np")["pixel_values"][0]).transpose(1, 2, 0)
    part = visible_region(ramp(*size), processor).resize((32, 32), Image.Resampling.BICUBIC)
    drawn = np.asarray(part).astype(float) / 255
    inside = (drawn[..., 2] > 0.9) & (model_sees[..., 2] > 0.9)
    assert inside.sum() > 32 * 32 * min(size) / max(size) - 80
    assert np.abs(drawn - model_sees)[inside].max() < 0.04


def test_visible_region_of_squashed_and_padded_images():
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
