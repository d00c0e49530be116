import warnings

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import foveate
from caches import with_cache
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.reference import mark_kept
from foveate.errors import (
    FoveateError,
    FoveateWarning,
    InputError,
    KeepError,
    ModelError,
    UnknownFamilyError,
    UnknownMethodError,
)
from foveate.models import lookup
from foveate.models.cache import cache_of
from foveate.pipeline.encode import list_extras


@pytest.fixture
def inputs(model, family):
    return make_batch(model, family, [(2, 5), (1, 7)])


def test_report_tells_what_was_kept(model, family, inputs):
    short = foveate.prune_inputs(model, inputs, keep=3)
    report = short.report
    assert [len(item.kept) for item in report.items] == [3, 3, 3]
    assert report.method == "foveate"
    assert report.seconds > 0
    for kept, total, grid in ((item.kept, item.total, item.grid) for item in report.items):
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert kept.max() < total == grid[0] * grid[1] * grid[2]
    kept_ids = inputs["input_ids"][mark_kept(model, family, inputs, short)]
    assert torch.equal(short["input_ids"][short["attention_mask"].bool()], kept_ids)


@pytest.mark.parametrize("keep", [3, 0.5, 1.0])
def test_report_tells_why_when_asked(model, inputs, keep):
    plain, explained = (foveate.prune_inputs(model, inputs, keep=keep, explain=why).report for why in (False, True))
    for item, other in zip(plain.items, explained.items, strict=True):
        assert item.relevance is item.core is None
        assert item.tiles == other.tiles
        assert item.kept.tolist() == other.kept.tolist()
        assert other.core.shape == other.kept.shape
        if keep == 1.0:
            assert other.relevance is None
            assert not other.core.any()
            continue
        assert other.relevance.shape == (other.total,)
        kept = set(other.kept.tolist())
        assert set(other.kept[other.core].tolist()) == kept & set(other.relevance.topk(len(kept)).indices.tolist())


def test_report_tells_where_tokens_lie(model, inputs):
    report = foveate.prune_inputs(model, inputs, keep=3).report
    for views, (_, h, w) in ((item.tiles, item.grid) for item in report.items):
        assert [(v.start, v.rows, v.columns, v.step) for v in views] == [(0, h, w, w)]
    assert not any(item.is_part or tile.overview for item in report.items for tile in item.tiles)


def test_share_is_per_picture(model, inputs):
    report = foveate.prune_inputs(model, inputs, keep=0.5).report
    assert [len(item.kept) for item in report.items] == [
        foveate.method.budget.to_budget(0.5, item.total) for item in report.items
    ]


def test_callers_inputs_are_untouched(model, inputs):
    before = {k: v.clone() for k, v in inputs.items()}
    foveate.prune_inputs(model, inputs, keep=2)
    assert inputs.keys() == before.keys()
    assert all(torch.equal(inputs[k], before[k]) for k in before)


@torch.no_grad()
def test_result_serves_many_calls(model, inputs):
    """Beams expand the encoder output they are given; the next call must not see that."""
    short = foveate.prune_inputs(model, inputs, keep=3)
    first = model.generate(**short, max_new_tokens=3, num_beams=3)
    assert torch.equal(first, model.generate(**short, max_new_tokens=3, num_beams=3))
    assert model(**short).logits.shape[1] == short["input_ids"].shape[1]


def test_loss_on_pruned_inputs_reaches_all_of_the_model(model, family, inputs):
    labels = inputs["input_ids"].clone()
    labels[:, :-2] = -100
    short = foveate.prune_inputs(model, {**inputs, "labels": labels}, keep=3)
    assert short["labels"].shape == short["input_ids"].shape
    assert (short["labels"] != -100).sum() == 4
    loss = model(**short).loss
    loss.backward()
    tower = model.base_model.vision_tower if hasattr(model.base_model, "vision_tower") else model.base_model.visual
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.parameters())
    # the same loss as the full model takes with the dropped tokens masked
    stays = mark_kept(model, family, inputs, short)
    full = {
        **inputs,
        "attention_mask": stays.long(),
        "position_ids": family.positions(model, inputs, inputs["attention_mask"]),
    }
    assert torch.allclose(model(**full, labels=labels).loss, loss, atol=1e-5)


def test_the_answer_under_a_loss_does_not_choose(model, family):
    inputs = make_batch(model, family, [(1, 9)])
    labels = inputs["input_ids"].clone()
    labels[:, :-3] = -100
    changed = inputs["input_ids"].clone()
    changed[:, -3:] += 7
    one, other = (
        foveate.prune_inputs(
            model, {**inputs, "input_ids": ids, "labels": labels}, keep=4, method=foveate.ZSPAPrune(core=1.0)
        )
        for ids in (inputs["input_ids"], changed)
    )
    assert torch.equal(one.report.items[0].kept, other.report.items[0].kept)


def test_mask_may_be_absent(model, family):
    inputs = make_batch(model, family, [(1, 6)])
    short = foveate.prune_inputs(model, inputs, keep=4)
    del inputs["attention_mask"]
    bare = foveate.prune_inputs(model, inputs, keep=4)
    assert torch.equal(short["attention_mask"], bare["attention_mask"])
    assert torch.equal(short["position_ids"], bare["position_ids"])


def test_right_padded_batch_as_collators_make_it(model, family):
    inputs = make_batch(model, family, [(1, 9), (1, 3)])
    flipped = dict(inputs)
    for row, pad in enumerate((inputs["attention_mask"] == 0).sum(-1).tolist()):
        for name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            if name in inputs:
                flipped[name] = flipped[name].clone()
                flipped[name][row] = inputs[name][row].roll(-pad)
    with torch.no_grad():
        left, right = (foveate.prune_inputs(model, x, keep=0.4) for x in (inputs, flipped))
        one = model(**left).logits[left["attention_mask"].bool()]
        other = model(**right).logits[right["attention_mask"].bool()]
    end = right.layout.end  # behind the last dropped token nothing moves
    assert 0 < end < flipped["input_ids"].shape[1]
    tail, real = flipped["input_ids"].shape[1] - end, flipped["attention_mask"][:, end:].bool()
    assert torch.equal(right["attention_mask"][:, -tail:].bool(), real)
    assert torch.equal(right["input_ids"][:, -tail:][real], flipped["input_ids"][:, end:][real])
    assert not right["attention_mask"][:, -1].all()
    assert torch.allclose(one, other, atol=1e-5)


@torch.no_grad()
def test_compact_positions_run_and_differ(model, inputs):
    original = foveate.prune_inputs(model, inputs, keep=3)
    compact = foveate.prune_inputs(model, inputs, keep=3, positions="compact")
    assert compact["position_ids"].max() == compact["attention_mask"].bool().sum(-1).max() - 1
    assert compact["position_ids"].shape == original["position_ids"].shape
    assert not torch.equal(compact["position_ids"], original["position_ids"])
    assert not torch.allclose(model(**compact).logits, model(**original).logits, atol=1e-3)


@torch.no_grad()
def test_encoded_pictures_are_taken_as_they_are(model, family, inputs):
    encoded = family.encode(model, inputs)
    ready = {k: v for k, v in inputs.items() if k != "pixel_values"} | {"mm_encoder_outputs": {"image": encoded}}
    one, other = (foveate.prune_inputs(model, x, keep=3) for x in (inputs, ready))
    assert same_kept(one.report, other.report)
    assert torch.equal(model(**one).logits, model(**other).logits)
    with pytest.raises(InputError, match="not both"):
        foveate.prune_inputs(model, {**ready, "pixel_values": inputs["pixel_values"]}, keep=3)


def test_text_passes_through(model, family):
    inputs = make_batch(model, family, [(0, 5)])
    short = foveate.prune_inputs(model, inputs, keep=0.1)
    assert dict(short) == inputs
    assert short.report.items == ()
    assert short.report.notes


def test_empty_question_falls_back_to_diversity_and_says_so(llava):
    ids = torch.tensor([[303] * 16])
    inputs = {"input_ids": ids, "pixel_values": torch.randn(1, 3, 32, 32)}
    with pytest.warns(FoveateWarning, match="no question"):
        report = foveate.prune_inputs(llava, inputs, keep=5, method="zspaprune").report
    assert "no question" in report.notes[0]
    again = foveate.prune_inputs(llava, inputs, keep=5, method="zspaprune").report  # no second warning
    assert again.notes == report.notes
    diverse = foveate.prune_inputs(llava, inputs, keep=5, method="divprune").report
    assert torch.equal(report.items[0].kept, diverse.items[0].kept)
    assert diverse.notes == ()


@pytest.mark.parametrize("keep", [0, -3, 0.0, -0.1, 1.5, float("nan"), "0.1", True, None])
def test_keep_out_of_range_is_refused(model, inputs, keep):
    with pytest.raises(KeepError, match="keep"):
        foveate.prune_inputs(model, inputs, keep=keep)


def test_more_than_there_are_keeps_all_and_warns(model, inputs):
    with pytest.warns(FoveateWarning, match="keeps all"):
        report = foveate.prune_inputs(model, inputs, keep=10_000).report
    assert [len(item.kept) for item in report.items] == [item.total for item in report.items]


def test_unknown_method_gets_a_hint(model, inputs):
    with pytest.raises(UnknownMethodError, match="zspaprune"):
        foveate.prune_inputs(model, inputs, keep=0.1, method="zspaprun")


def test_unknown_positions(model, inputs):
    with pytest.raises(InputError, match="compact"):
        foveate.prune_inputs(model, inputs, keep=0.1, positions="orignal")


def test_unsupported_family_is_named_with_the_way_to_add_it():
    small = LlamaForCausalLM(
        LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )
    with pytest.raises(UnknownFamilyError, match=r"'llama'.*CONTRIBUTING"):
        foveate.prune_inputs(small, {"input_ids": torch.ones(1, 3).long()}, keep=0.1)
    with pytest.raises(ModelError):
        foveate.prune_inputs(torch.nn.Linear(2, 2), {}, keep=0.1)


def without(inputs, *names):
    return {k: v for k, v in inputs.items() if k not in names}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: without(x, "pixel_values", "image_grid_thw"), "no image"),
        (lambda x: {**x, "input_ids": torch.full_like(x["input_ids"], 11)}, "no placeholder is left"),
        (
            lambda x: {**x, "input_ids": x["input_ids"][:, :-20], "attention_mask": x["attention_mask"][:, :-20]},
            "placeholders",
        ),
        (lambda x: {**x, "inputs_embeds": torch.ones(1)}, "inputs_embeds"),
        (lambda x: {**x, "input_ids": x["input_ids"][0]}, "return_tensors"),
        (lambda x: {**x, "input_ids": x["input_ids"].tolist()}, "return_tensors"),
        (lambda x: {**x, "attention_mask": x["attention_mask"][:, 1:]}, "attention_mask"),
        (lambda x: {**x, "attention_mask": torch.zeros_like(x["attention_mask"])}, "hides"),
        (lambda x: {**x, "pixel_values": x["pixel_values"] * float("nan")}, "NaN"),
        (lambda x: {**x, "pixel_values": x["pixel_values"] * float("inf")}, "NaN"),
        (lambda x: list(x), "mapping"),
        (lambda x: {**x, "attention_mask": x["attention_mask"].tolist()}, "attention_mask is a list: pass a tensor"),
        (lambda x: {**x, "labels": x["input_ids"].tolist()}, "labels is a list: pass a tensor"),
        (lambda x: {**x, "labels": x["input_ids"][:, 1:]}, "labels has shape .*: give one a token"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(model, inputs, change, told):
    with pytest.raises(FoveateError, match=told):
        foveate.prune_inputs(model, change(inputs), keep=0.5)


def test_the_labels_of_a_decoder_hide_no_question():
    """They may have the prompt's shape by chance."""
    family = lookup.family("t5gemma2")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 9)])
    del inputs["decoder_input_ids"]
    plain = foveate.prune_inputs(model, inputs, keep=4).report
    trained = foveate.prune_inputs(model, {**inputs, "labels": inputs["input_ids"]}, keep=4).report
    assert trained.notes == plain.notes
    assert torch.equal(trained.items[0].kept, plain.items[0].kept)


def test_encoded_must_come_from_encode(model, inputs):
    with pytest.raises(InputError, match=r"encoded is a dict: pass what foveate\.encode returned"):
        foveate.prune_inputs(model, inputs, keep=0.5, encoded={})


@torch.no_grad()
def test_filled_cache_is_refused(model, inputs):
    cache = cache_of(model(**inputs, use_cache=True))
    with pytest.raises(InputError, match="past_key_values"):
        foveate.prune_inputs(model, {**inputs, **with_cache(model, cache)}, keep=0.5)


@pytest.mark.parametrize(
    "method", [m for m in foveate.methods() if m.prunes == "input"], ids=lambda method: method.name
)
@torch.no_grad()
def test_every_method_runs_in_half_precision_on_every_family_that_gives_what_it_needs(model, family, inputs, method):
    if not list_extras(model, family).issuperset(method.needs):
        pytest.skip("refused; see test_encoded.py")
    model.to(torch.bfloat16)
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        short = foveate.prune_inputs(model, inputs, keep=0.3, method=method.name)
    assert short["mm_encoder_outputs"]["image"].pooler_output[0].dtype == torch.bfloat16
    assert torch.isfinite(model(**short).logits).all()


def same_kept(one, other):
    pairs = zip(one.items, other.items, strict=True)
    return all(torch.equal(a.kept, b.kept) for a, b in pairs)
