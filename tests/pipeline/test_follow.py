"""A policy, or shares by age, in `prune_inputs`: what they choose is what is kept, and all else is refused."""

from dataclasses import replace

import pytest
import torch

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.reference import logits_at, relative_error, run_reference
from foveate.errors import InputError, KeepError
from foveate.models import lookup
from foveate.models.visual_input import make_visual_input
from foveate.pipeline.follow import follow_policy
from foveate.pipeline.settings import check_settings
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


# -- shares by age -----------------------------------------------------------------------------------------------------

HISTORY = foveate.Recency(newest=1.0, older=0.2, fade=0.5)
SHARES = {1: [1.0], 2: [0.5, 1.0], 4: [0.2, 0.25, 0.5, 1.0]}


def make_history(name):
    """A batch of four images, one and none."""
    family = lookup.family(name)
    model = make_tiny_model(family)
    return model, make_batch(model, family, [(4, 6), (1, 4), (0, 5)])


@pytest.fixture(scope="module", params=["llava", "llava_next", "qwen2_5_vl", "qwen3_vl", "idefics3", "gemma3"])
def history(request):
    return make_history(request.param)


@pytest.mark.parametrize("method", ["foveate", "glance", "divprune", "random"])
def test_each_image_is_pruned_at_its_own_share(history, method):
    """What is kept of an image is what a call with its share as `keep` keeps of it."""
    model, inputs = history
    report = foveate.prune_inputs(model, inputs, keep=HISTORY, method=method).report
    assert [item.keep for item in report.items] == [*SHARES[4], *SHARES[1]]
    for n, item in enumerate(report.items):
        alone = foveate.prune_inputs(model, inputs, keep=item.keep, method=method).report.items[n]
        assert torch.equal(item.kept, alone.kept)
    assert len(report.items[3].kept) == report.items[3].total > len(report.items[0].kept)


def split_features(short):
    """The features that the model reads, of each image."""
    rows = torch.cat(short["mm_encoder_outputs"]["image"].pooler_output)
    return rows.split([len(item.kept) for item in short.report.items])


def test_what_is_merged_in_an_image_is_as_with_its_own_share():
    model, inputs = make_history("llava")
    short = foveate.prune_inputs(model, inputs, keep=HISTORY, method="prumerge")
    for n, features in enumerate(split_features(short)[:3]):
        alone = foveate.prune_inputs(model, inputs, keep=SHARES[4][n], method="prumerge")
        assert torch.allclose(features, split_features(alone)[n], atol=1e-6)
    whole = foveate.prune_inputs(model, inputs, keep=1.0)
    assert torch.equal(split_features(short)[3], split_features(whole)[3])


def test_the_model_reads_these_tokens_at_their_places(history):
    model, inputs = history
    family = lookup.family(model.config.model_type)
    with torch.no_grad():
        short = foveate.prune_inputs(model, inputs, keep=HISTORY)
        ours = logits_at(model(**short).logits, short["attention_mask"].bool())
        assert relative_error(ours, run_reference(model, family, inputs, short)) < 1e-4


def test_under_attach_shares_go_by_age_too(history):
    model, inputs = history
    with torch.no_grad(), foveate.pruning(model, keep=HISTORY) as handle:
        model(**inputs)
    assert [item.keep for item in handle.report.items] == [*SHARES[4], *SHARES[1]]


def test_images_and_videos_of_a_prompt_age_together():
    family = lookup.family("qwen2_5_vl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("image", "video", "image", "video"), 5)])
    by_place = sorted(foveate.prune_inputs(model, inputs, keep=HISTORY).report.items, key=lambda item: item.first)
    assert [item.keep for item in by_place] == SHARES[4]
    images = foveate.prune_inputs(model, inputs, keep=HISTORY, modalities=("image",)).report.items
    assert [item.keep for item in images] == [*SHARES[2], None, None]
    assert all(len(item.kept) == item.total for item in images[1:])


@pytest.mark.parametrize("options", [{"encode": 0.6}, {"skip": 0.05}])
def test_a_part_of_an_image_is_pruned_at_its_own_share(options):
    model, inputs = make_history("qwen2_5_vl")
    report = foveate.prune_inputs(model, inputs, keep=HISTORY, **options).report
    for n, item in enumerate(report.items):
        alone = foveate.prune_inputs(model, inputs, keep=item.keep, **options).report.items[n]
        assert torch.equal(item.kept, alone.kept)


def test_images_that_the_text_attends_across_to_have_shares_by_age():
    model, inputs = make_history("mllama")
    report = foveate.prune_inputs(model, inputs, keep=HISTORY).report
    assert [item.keep for item in report.items] == [*SHARES[4], *SHARES[1]]


@pytest.mark.parametrize("per", ["frame", "prompt"])
def test_shares_by_age_count_for_images(per):
    model, inputs = make_history("llava")
    with pytest.raises(InputError, match=r"not for Recency, which gives each image a share"):
        foveate.prune_inputs(model, inputs, keep=HISTORY, per=per)


def test_shares_by_age_are_not_for_what_counts_no_images():
    model, _ = make_history("llava")
    with pytest.raises(InputError, match="takes one budget"):
        foveate.attach(model, keep=HISTORY, method="fastv")
    with pytest.raises(KeepError, match="is a Recency"):
        foveate.attach(model, keep=[HISTORY, 0.1])


def test_tiles_that_may_be_of_one_image_have_no_age():
    part = make_visual_input("image", 0, torch.arange(4), 0, torch.zeros(4, 2))
    with pytest.raises(InputError, match="nothing in these inputs tells which tiles are one image"):
        follow_policy([replace(part, is_part=True)], {}, check_settings(HISTORY, "divprune"))
