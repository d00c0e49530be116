"""The table of families is complete; models that are not in it are refused with an error that says why."""

import dataclasses
import inspect
import statistics

import pytest
import torch
from transformers import GitConfig, GitForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MAPPING

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import InputError, ModelError, UnknownFamilyError
from foveate.models import lookup
from foveate.models.base import Family
from foveate.models.outside import OUTSIDE
from foveate.models.registry import FAMILIES


def test_every_image_text_model_of_transformers_has_a_status_and_a_reason():
    rows = {row.model_type: row for row in foveate.families()}
    assert set(MAPPING) <= set(rows)
    for row in rows.values():
        assert row.status in ("supported", "not applicable", "not yet")
        assert row.note
        assert "nobody has tried" not in row.note, row
        assert bool(row.modalities) == (row.model_type in FAMILIES.names())
        assert row.architecture == MAPPING.get(row.model_type, "")
    assert sum(row.status == "supported" for row in rows.values()) >= 60


def test_a_model_is_either_registered_or_left_out():
    assert not set(OUTSIDE) & set(FAMILIES.names())
    assert all(status in ("not applicable", "not yet") for status, _ in OUTSIDE.values())


def test_families_are_small():
    """An adapter holds only what differs: half of them have less than 40 lines."""
    lines = [len(inspect.getsource(FAMILIES.load(name)).splitlines()) for name in FAMILIES.names()]
    assert statistics.median(lines) < 40


@pytest.mark.parametrize("name", FAMILIES.names())
def test_every_family_has_a_summary_and_modalities(name):
    family_class = FAMILIES.load(name)
    assert issubclass(family_class, Family)
    assert 10 < len(lookup.describe(family_class)) < 130
    assert set(family_class.traits.modalities) <= {"image", "video", "audio"}


def tiny_llama():
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    )


def test_the_error_for_an_unknown_model_names_what_it_lacks():
    lacks = r"'llama' are not supported: .* lacks mm_encoder_outputs .* get_image_features .*CONTRIBUTING"
    with pytest.raises(UnknownFamilyError, match=lacks):
        foveate.prune_inputs(tiny_llama(), {"input_ids": torch.ones(1, 3).long()}, keep=0.1)
    with pytest.raises(UnknownFamilyError, match="'git' are not supported: while decoding"):
        foveate.attach(
            GitForCausalLM(GitConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1)),
            keep=0.1,
        )


def test_the_error_for_an_unknown_model_of_the_conventions_says_so(llava):
    llava.config.model_type = "llava_of_mine"
    with pytest.raises(UnknownFamilyError, match="has what the shared conventions need, but no law was checked"):
        foveate.prune_inputs(llava, {}, keep=0.1)


def test_remote_code_is_refused(llava):
    class Remote(type(llava)):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    Remote.forward.__module__ = "transformers_modules.somebody.modeling_llava"
    inputs = make_batch(llava, lookup.family("llava"), [(1, 4)])
    llava.__class__ = Remote
    with pytest.raises(ModelError, match=r"forward of its own \(remote code\).*trust_remote_code=False"):
        foveate.prune_inputs(llava, inputs, keep=0.5)


def test_a_family_of_other_versions_names_them(monkeypatch, llava):
    llava_family = FAMILIES.load("llava")
    monkeypatch.setattr(llava_family, "traits", dataclasses.replace(llava_family.traits, versions=">=99"))
    with pytest.raises(UnknownFamilyError, match=r"'llava' need transformers >=99, and this is .*pip install"):
        foveate.prune_inputs(llava, {}, keep=0.5)
    assert "llava" not in lookup.available()
    assert {row.model_type: row.status for row in foveate.families()}["llava"] == "not yet"


@pytest.mark.parametrize("name", ["internvl", "qwen3_5", "mllama", "blip-2", "gemma3", "florence2"])
@torch.no_grad()
def test_half_precision_obeys_the_laws_loosely(name):
    from foveate.conformance import laws

    results = laws.check(make_tiny_model(lookup.family(name)).to(torch.bfloat16))
    assert all(result.passed for result in results), results


@torch.no_grad()
@pytest.mark.parametrize(("apart", "totals"), [(True, (48, 16, 80)), (False, (64, 80))])
def test_the_tiles_of_an_image_share_its_budget(apart, totals):
    """InternVL's processor writes them in one run of placeholders."""
    family = lookup.family("internvl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(3, 5)])
    ids = inputs["input_ids"][0]
    places = (ids == model.config.image_token_id).nonzero().squeeze(1)
    first = int((places.diff() > 1).nonzero()[0])
    if not apart:  # without what is between the first two images they are one run
        stays = torch.ones_like(ids, dtype=torch.bool)
        stays[places[first] + 1 : places[first + 1]] = False
        inputs |= {name: inputs[name][:, stays] for name in ("input_ids", "attention_mask")}
    short = foveate.prune_inputs(model, inputs, keep=7)
    assert tuple(item.total for item in short.report.items) == totals
    assert tuple(item.grid for item in short.report.items) == tuple((1, 4, 4) if n == 16 else None for n in totals)
    assert [len(item.kept) for item in short.report.items] == [7] * len(totals)
    whole = foveate.prune_inputs(model, inputs, keep=1.0)
    assert torch.allclose(model(**whole).logits, model(**inputs).logits, atol=1e-5)


@pytest.mark.skipif("inkling_mm_model" not in lookup.available(), reason="only newer transformers has it")
def test_squares_without_their_placeholders_are_refused():
    """Inkling tells images apart by the runs of their placeholders."""
    family = lookup.family("inkling_mm_model")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 5)])
    inputs["input_ids"][0, family.placeholders(model.config, inputs)[0].nonzero()[-1]] = 11
    with pytest.raises(InputError, match="let the model's own processor build both"):
        foveate.prune_inputs(model, inputs, keep=0.5)
