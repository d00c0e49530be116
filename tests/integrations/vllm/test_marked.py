"""Words among an image's tokens, and tiles, with no engine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from foveate.integrations.vllm.settings import ImagePlan

pytest.importorskip("vllm", reason="vLLM is not installed here: `make test` sets it up where it can")

from vllm.multimodal.processing import PromptUpdateDetails

from foveate.integrations.vllm import internvl, marked

WRITTEN = [[9, 9, 9], [1, 9, 9, 2], [9, 9, 3, 9, 9, 3, 9, 9, 4], [5, 6, 9, 9, 7, 7, 5, 8, 9, 9, 5], [9]]
COUNTS = [3, 1, 4]  # tiles of each image


@pytest.mark.parametrize("ids", WRITTEN)
def test_what_no_feature_stands_for_is_a_word(ids):
    (count, protected), words = marked.find_words(PromptUpdateDetails.select_token_id(ids, 9))
    assert (count, protected) == (ids.count(9), 0)
    assert list(words) == [(place, token) for place, token in enumerate(ids) if token != 9]


def test_the_adapter_reads_the_ids_of_all_images():
    made = object.__new__(marked.PrunedMarkedModel)
    made._family, made.config = SimpleNamespace(token_id=lambda config: 9), None
    plans = []
    for ids in WRITTEN:
        words = tuple((place, token) for place, token in enumerate(ids) if token != 9)
        plans.append(ImagePlan(len(words) + 1, len(ids), "grid", "original", (), words=words))
    described = made.describe_images({"pixel_values": 0}, plans)
    assert described["input_ids"].tolist() == [[token for ids in WRITTEN for token in ids]]
    assert described["pixel_values"] == 0


@pytest.mark.parametrize("kind", [marked.PrunedTiledModel, internvl.PrunedInternVL])
def test_the_tiles_are_cut_between_images(kind):
    made = object.__new__(kind)
    made.__dict__["counts"] = "image_num_patches"
    tiles, counts = torch.arange(sum(COUNTS) * 2).view(-1, 2), torch.tensor(COUNTS)
    inputs = {"pixel_values": tiles, "image_num_patches": counts}
    if kind is internvl.PrunedInternVL:
        inputs["image_token_id"] = torch.tensor(9)
    for start in range(len(COUNTS)):
        for stop in range(start + 1, len(COUNTS) + 1):
            cut = made.slice_inputs(inputs, start, stop)
            again = made.slice_inputs(cut, 0, stop - start)  # what is cut can be cut
            for name in inputs:
                assert torch.equal(cut[name], again[name])
            assert set(cut) == set(inputs)
            assert cut["image_num_patches"].tolist() == COUNTS[start:stop]
            assert torch.equal(cut["pixel_values"], torch.cat(tiles.split(COUNTS)[start:stop]))
            if "image_token_id" in inputs:
                assert cut["image_token_id"].unique().tolist() == [9]
