"""A policy knows its model, in another type or with weights on disk, and no other one."""

from dataclasses import replace

import pytest
import torch

from foveate.conformance.batches import make_tiny_model
from foveate.models import lookup
from foveate.policy.signature import sign_model


@pytest.fixture(scope="module")
def model():
    return make_tiny_model(lookup.family("llava"))


def test_another_type_is_the_same_model(model):
    signature = sign_model(model)
    assert signature.fits(sign_model(make_tiny_model(lookup.family("llava")).to(torch.bfloat16)))
    assert len(signature.weights) > 20


def test_one_other_weight_of_those_that_are_kept_is_another_model(model):
    signature = sign_model(model)
    for place in (0, len(signature.weights) // 2, -1):
        weights = list(signature.weights)
        weights[place] = weights[place] + 0.1
        assert not signature.fits(replace(signature, weights=tuple(weights)))
    assert not signature.fits(replace(signature, size=signature.size + 1))
    assert not signature.fits(replace(signature, model_type="qwen2_vl"))


def test_weights_on_disk_may_be_the_same(model):
    signature = sign_model(model)
    offloaded = make_tiny_model(lookup.family("llava"))
    offloaded.base_model.vision_tower.to("meta")
    partial = sign_model(offloaded)
    assert None in partial.weights
    assert signature.fits(partial)
    assert partial.fits(signature)
    first = next(n for n, weight in enumerate(partial.weights) if weight is not None)
    changed = (*partial.weights[:first], partial.weights[first] + 0.1, *partial.weights[first + 1 :])
    assert not signature.fits(replace(partial, weights=changed))


def test_a_training_step_makes_it_another_model():
    model = make_tiny_model(lookup.family("llava"))
    before = sign_model(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    assert not before.fits(sign_model(model))
