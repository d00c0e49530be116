"""Families whose encoder returns tiles, on tiny models with the markers of their processors."""

import pytest
import torch

from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import KeepError
from foveate.models import lookup
from foveate.models.tiling import TiledFamily
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
