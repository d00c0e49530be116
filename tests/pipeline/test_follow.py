"""A policy in `prune_inputs`: what it chooses is what is kept, and everything else is refused."""

from dataclasses import replace

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError, KeepError
from foveate.models import lookup
from foveate.policy.signature import sign_model
from tests.policies import make_policy


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl", "mllama"])
def case(request):
    family = lookup.family(request.param)
    model = make_tiny_model(family)
    return model, make_batch(model, family, [(1, 6), (1, 4)])


@pytest.mark.parametrize(("price", "keep"), [(0.0, 0.25), (1e12, 1.0)])
def test_it_is_pruned_as_with_that_share(case, price, keep):
    model, inputs = case
    policy = foveate.prune_inputs(model, inputs, keep=make_policy(model, price=price))
    fixed = foveate.prune_inputs(model, inputs, keep=keep)
    assert {item.keep for item in policy.report.items} == {keep}
    assert all("estimated risk" in item.reason for item in policy.report.items)
    assert [item.kept.tolist() for item in policy.report.items] == [item.kept.tolist() for item in fixed.report.items]
    for name, value in fixed.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(policy[name], value), name


def test_each_image_has_its_own_share():
    family = lookup.family("llava_next")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 6), (2, 4)])
    whole = foveate.prune_inputs(model, inputs, keep=1.0).report.items
    sizes = {item.total for item in whole}
    policy = make_policy(model, price=3.0, offsets=(-2.0, -9.0), weight=2.0)
    with pytest.warns(foveate.FoveateWarning, match="one image a prompt"):
        report = foveate.prune_inputs(model, inputs, keep=policy).report
    for item in report.items:
        scores = {"tokens": float(item.selectable.sum()) if item.embeds.numel() else float(item.total)}
        assert item.keep in (0.25, 0.5, 1.0)
        assert item.keep == policy.decide(scores, policy.topic).keep or len(sizes) == 1
    assert any("one image a prompt" in note for note in report.notes)


def test_under_attach_it_is_the_same(case):
    model, inputs = case
    policy = make_policy(model, price=0.0)
    with torch.no_grad(), foveate.pruning(model, keep=policy) as handle:
        model(**inputs)
    assert [item.keep for item in handle.report.items] == [0.25, 0.25]


def test_a_policy_of_other_weights_is_refused(case):
    model, inputs = case
    policy = make_policy(model)
    weights = tuple(2 * weight + 1 for weight in policy.model.weights)
    with pytest.raises(InputError, match="another model"):
        foveate.prune_inputs(model, inputs, keep=replace(policy, model=replace(policy.model, weights=weights)))


def test_a_policy_fits_the_same_weights_in_another_type():
    model = make_tiny_model(lookup.family("llava"))
    policy = make_policy(model)
    assert policy.model.fits(sign_model(model.to(torch.bfloat16)))


@pytest.mark.parametrize("name", ["method", "positions"])
def test_other_settings_than_calibrated_are_refused(case, name):
    model, inputs = case
    other = {"method": "divprune", "positions": "compact"}[name]
    with pytest.raises(InputError, match=f"calibrated with {name}='{other}'"):
        foveate.prune_inputs(model, inputs, keep=make_policy(model, **{name: other}))


def test_a_method_with_other_fields_is_another_method(case):
    model, inputs = case
    policy = make_policy(model)
    with pytest.raises(InputError, match=r"method='foveate', not 'foveate\(focus=0.0\)'"):
        foveate.prune_inputs(model, inputs, keep=policy, method=foveate.Foveate(focus=0.0))
    policy = make_policy(model, method="foveate(focus=0.0)")
    foveate.prune_inputs(model, inputs, keep=policy, method=foveate.Foveate(focus=0.0))
    foveate.prune_inputs(model, inputs, keep=make_policy(model), method=foveate.Foveate())


@pytest.mark.parametrize("per", ["frame", "prompt"])
def test_it_counts_for_images(case, per):
    model, inputs = case
    with pytest.raises(InputError, match="not for a policy"):
        foveate.prune_inputs(model, inputs, keep=make_policy(model), per=per)


def test_videos_are_refused():
    family = lookup.family("qwen2_5_vl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("video",), 5)])
    with pytest.raises(InputError, match="not for video"):
        foveate.prune_inputs(model, inputs, keep=make_policy(model))


def test_auto_without_a_policy_is_refused(case):
    model, inputs = case
    with pytest.raises(InputError, match="foveate calibrate"):
        foveate.prune_inputs(model, inputs, keep="auto")
    with pytest.raises(InputError, match="foveate calibrate"):
        foveate.attach(model, keep="auto")


@pytest.mark.parametrize("keep", ["auto ", "0.1", "policy.json"])
def test_other_texts_are_no_budget(case, keep):
    model, inputs = case
    with pytest.raises(KeepError):
        foveate.prune_inputs(model, inputs, keep=keep)
