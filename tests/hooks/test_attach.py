import functools
import inspect

import pytest
import torch
from transformers import GenerationConfig

import foveate
from caches import with_cache
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.errors import FoveateError, FoveateWarning, InputError, KeepError, ModelError
from foveate.models import lookup
from foveate.models.cache import NAMES, cache_of

NEW = {"max_new_tokens": 3, "min_new_tokens": 3}


@pytest.fixture
def inputs(model, family):
    return make_batch(model, family, [(2, 5), (1, 7)])


def test_prompt_comes_back_whole(model, inputs):
    length = inputs["input_ids"].shape[1]
    with foveate.pruning(model, keep=3) as handle:
        out = model.generate(**inputs, **NEW)
        assert [len(item.kept) for item in handle.report.items] == [3, 3, 3]
    assert out.shape == (2, length + 3)
    assert torch.equal(out[:, :length], inputs["input_ids"])
    short = foveate.prune_inputs(model, inputs, keep=3)
    assert torch.equal(out[:, length:], model.generate(**short, **NEW)[:, -3:])


def test_dict_outputs_and_several_sequences(model, inputs):
    length = inputs["input_ids"].shape[1]
    with foveate.pruning(model, keep=3):
        out = model.generate(**inputs, **NEW, num_beams=4, num_return_sequences=2, return_dict_in_generate=True)
    assert out.sequences.shape == (4, length + 3)
    assert torch.equal(out.sequences[:, :length], inputs["input_ids"].repeat_interleave(2, 0))


def test_forward_is_pruned_positional_arguments_too(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    length = inputs["input_ids"].shape[1]
    with foveate.pruning(llava, keep=4), torch.no_grad():
        assert llava(**inputs).logits.shape[1] == length - 12
        assert llava(inputs["input_ids"], inputs["pixel_values"]).logits.shape[1] == length - 12
        assert llava(input_ids=inputs["input_ids"].clamp(max=200)).logits.shape[1] == length
    assert llava(**inputs).logits.shape[1] == length


def test_training_step_under_a_handle(model, inputs):
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    with foveate.pruning(model, keep=3):
        with pytest.warns(FoveateWarning, match="labels cover the whole prompt"):
            loss = model(**inputs, labels=labels).loss
        loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_of_a_prompt(model, inputs, chunk):
    with foveate.pruning(model, keep=3):
        whole = model.generate(**inputs, **NEW)
        assert torch.equal(model.generate(**inputs, **NEW, prefill_chunk_size=chunk), whole)


def test_text_only_generation_is_the_stock_one(model, family):
    inputs = make_batch(model, family, [(0, 5), (0, 2)])
    stock = model.generate(**inputs, **NEW)
    with foveate.pruning(model, keep=3) as handle:
        assert torch.equal(model.generate(**inputs, **NEW), stock)
        assert handle.report.items == ()


def test_text_goes_on_from_a_cache(model, family):
    """A conversation without images may keep its cache while a handle is on."""
    inputs = make_batch(model, family, [(0, 5)])

    def talk():
        first = model.generate(**inputs, **NEW, return_dict_in_generate=True)
        ids = torch.cat([first.sequences, first.sequences[:, :2]], dim=1)
        return model.generate(input_ids=ids, **with_cache(model, cache_of(first)), **NEW)

    stock = talk()
    with foveate.pruning(model, keep=3):
        assert torch.equal(talk(), stock)


def test_innermost_handle_decides_and_any_order_of_removal_works(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])

    def kept(handle):
        llava.generate(**inputs, **NEW)
        return len(handle.report.items[0].kept)

    outer = foveate.attach(llava, keep=8)
    with foveate.pruning(llava, keep=2) as inner:
        assert kept(inner) == 2
        assert outer.last_report is None
    assert kept(outer) == 8
    with pytest.warns(FoveateWarning, match="newest handle decides"):
        again = foveate.attach(llava, keep=5, method="grid")
    outer.remove()
    assert kept(again) == 5
    outer.remove()
    again.remove()
    again.remove()
    assert "generate" not in vars(llava)
    assert not llava._forward_pre_hooks


def test_attaching_again_with_other_settings(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    for keep in (2, 5):
        handle = foveate.attach(llava, keep=keep)
        llava.generate(**inputs, **NEW)
        assert len(handle.report.items[0].kept) == keep
        handle.remove()
    assert "generate" not in vars(llava)


def test_block_left_by_an_error_leaves_nothing(llava):
    with pytest.raises(RuntimeError, match="mine"), foveate.pruning(llava, keep=2):
        raise RuntimeError("mine")
    assert "generate" not in vars(llava)


def test_failed_call_leaves_the_handle_working(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    with foveate.pruning(llava, keep=2) as handle:
        with pytest.raises(FoveateError):
            llava.generate(input_ids=inputs["input_ids"], **NEW)
        with pytest.raises(RuntimeError, match="negative dimension"):
            llava.generate(**inputs, **NEW, num_beams=-1)
        llava.generate(**inputs, **NEW)
        assert len(handle.report.items[0].kept) == 2


def test_somebody_elses_generate_is_given_back(llava):
    def mine(*args, **kwargs):
        return "mine"

    llava.generate = mine
    foveate.attach(llava, keep=2).remove()
    assert llava.generate is mine


def test_wrapping_in_front_of_ours_survives_removal(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    expected = llava.generate(**inputs, **NEW, return_dict_in_generate=True, output_logits=True).logits
    handle = foveate.attach(llava, keep=2)
    ours = llava.generate
    llava.generate = lambda **kwargs: ours(**kwargs)
    theirs = llava.generate
    handle.remove()
    assert llava.generate is theirs
    found = llava.generate(**inputs, **NEW, return_dict_in_generate=True, output_logits=True).logits
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_pruned_inputs_are_not_pruned_again(model, inputs):
    short = foveate.prune_inputs(model, inputs, keep=4)
    expected = model.generate(**short, **NEW)
    with foveate.pruning(model, keep=2) as handle, torch.no_grad():
        assert torch.equal(model.generate(**short, **NEW), expected)
        assert model(**short).logits.shape[1] == short["input_ids"].shape[1]
        assert handle.last_report is None


def test_wrapper_with_our_attributes_does_not_hide_that_ours_is_gone(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    first = foveate.attach(llava, keep=2)
    llava.generate = functools.wraps(llava.generate)(lambda *a, ours=llava.generate, **k: ours(*a, **k))
    first.remove()
    with foveate.pruning(llava, keep=3) as handle, torch.no_grad():
        llava.generate(**inputs, **NEW)
        assert len(handle.report.items[0].kept) == 3
        assert llava(**inputs).logits.shape[1] == inputs["input_ids"].shape[1] - 13


def test_signature_survives(model):
    before = inspect.signature(model.generate)
    with foveate.pruning(model, keep=2):
        assert inspect.signature(model.generate) == before
        assert model.generate.__doc__ == type(model).generate.__doc__


@pytest.mark.parametrize("how", ["argument", "config", "model", "model beside a config"])
def test_max_length_counts_the_callers_prompt(llava, how):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    limit = {"max_length": inputs["input_ids"].shape[1] + 2, "min_length": inputs["input_ids"].shape[1] + 2}
    if how.startswith("model"):
        llava.generation_config.update(**limit)
        limit = {"generation_config": GenerationConfig(pad_token_id=302)} if how.endswith("config") else {}
    if how == "config":
        limit = {"generation_config": GenerationConfig(**limit, pad_token_id=302)}
    with foveate.pruning(llava, keep=2):
        assert llava.generate(**inputs, **limit).shape[1] == inputs["input_ids"].shape[1] + 2


def test_a_max_length_that_the_prompt_fills_is_refused(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    length = inputs["input_ids"].shape[1]
    with foveate.pruning(llava, keep=3), pytest.raises(InputError, match=f"the prompt has {length} tokens"):
        llava.generate(**inputs, max_length=length)


def test_inputs_argument_and_positional_ids(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    ids, pixels = inputs["input_ids"], inputs["pixel_values"]
    with foveate.pruning(llava, keep=2):
        expected = llava.generate(input_ids=ids, pixel_values=pixels, **NEW)
        assert torch.equal(llava.generate(ids, pixel_values=pixels, **NEW), expected)
        assert torch.equal(llava.generate(inputs=ids, pixel_values=pixels, **NEW), expected)


def test_inputs_embeds_are_refused(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    embeds = llava.get_input_embeddings()(inputs["input_ids"])
    with foveate.pruning(llava, keep=2), pytest.raises(InputError, match="inputs_embeds"):
        llava.generate(inputs_embeds=embeds, pixel_values=inputs["pixel_values"], **NEW)


def test_bad_settings_attach_nothing(llava):
    with pytest.raises(KeepError):
        foveate.attach(llava, keep=0)
    with pytest.raises(FoveateError):
        foveate.attach(llava, keep=0.1, method="zsprune")
    with pytest.raises(FoveateError):
        foveate.attach(llava, keep=0.1, positions="old")
    with pytest.raises(FoveateError):
        foveate.attach(torch.nn.Linear(1, 1), keep=0.1)
    assert "generate" not in vars(llava)


@pytest.mark.parametrize("explain", [False, True])
def test_a_handle_explains_when_asked(model, inputs, explain):
    with foveate.pruning(model, keep=3, explain=explain) as handle:
        model(**inputs)
        explained = [item.core is not None and item.relevance is not None for item in handle.report.items]
        assert explained == [explain] * 3


def test_a_handle_does_not_explain_by_default(model, inputs):
    handle = foveate.attach(model, keep=3)
    model(**inputs)
    assert all(item.relevance is None and item.core is None for item in handle.report.items)
    handle.remove()


def test_what_an_in_decoder_method_cannot_follow_is_named(llava):
    refused = {
        "per='frame' is not for fastv, which counts by image: leave it out.": {"per": "frame"},
        "modalities=('video',) is not for fastv, which prunes images: leave it out.": {"modalities": ("video",)},
        "explain=True is not for fastv, which selects by attention alone: leave it out.": {"explain": True},
        "positions='compact' is not for fastv, whose tokens stay in place: leave it out.": {"positions": "compact"},
    }
    for message, setting in refused.items():
        with pytest.raises(InputError) as error:
            foveate.attach(llava, keep=3, method="fastv", **setting)
        assert str(error.value) == message


def test_the_warning_of_a_second_handle(llava):
    first = foveate.attach(llava, keep=3)
    with pytest.warns(FoveateWarning) as caught:
        foveate.attach(llava, keep=2).remove()
    expected = "Pruning is attached to this model already: the newest handle decides, until it is removed."
    assert [str(warning.message) for warning in caught] == [expected]
    first.remove()


def test_in_decoder_methods_do_not_explain(llava):
    with pytest.raises(InputError, match=r"explain=True is not for fastv.*leave it out"):
        foveate.attach(llava, keep=3, method="fastv", explain=True)
    with pytest.raises(InputError, match="explain=True"), foveate.pruning(llava, keep=3, method="fastv", explain=True):
        pass
    assert "generate" not in vars(llava)


def test_static_cache(llava):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    with foveate.pruning(llava, keep=3):
        dynamic = llava.generate(**inputs, **NEW)
        static = llava.generate(**inputs, **NEW, cache_implementation="static", disable_compile=True)
    assert torch.equal(dynamic, static)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_filled_cache_is_refused_under_either_name(llava, name):
    inputs = make_batch(llava, foveate.models.family_of(llava), [(1, 5)])
    cache = cache_of(llava(**inputs, use_cache=True))
    with foveate.pruning(llava, keep=3), pytest.raises(InputError, match="past_key_values"):
        llava.generate(**inputs, **NEW, **{name: cache})


@pytest.mark.parametrize("ends", [False, True])
def test_padding_without_a_mask_is_seen_as_generate_sees_it(llava, ends):
    """Hidden, unless its id ends generation too."""
    inputs = make_batch(llava, foveate.models.family_of(llava), [(2, 5), (1, 7)])
    ids = inputs["input_ids"].masked_fill(inputs.pop("attention_mask") == 0, llava.config.text_config.pad_token_id)
    inputs |= {"input_ids": ids, "eos_token_id": [301, 302] if ends else 301, "pad_token_id": 302}
    stock = llava.generate(**inputs, **NEW)
    with foveate.pruning(llava, keep=1.0):
        assert torch.equal(llava.generate(**inputs, **NEW), stock)


@pytest.mark.skipif("qwen2_5_omni_thinker" not in lookup.available(), reason="newer transformers alone has it right")
@pytest.mark.parametrize("how", ["argument", "config"])
def test_drafts_are_refused_for_pruned_sounds(how):
    """transformers would cut the prompt out of the mask."""
    family = lookup.family("qwen2_5_omni_thinker")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("audio",), 5)])
    draft = {"prompt_lookup_num_tokens": 2, **NEW}
    draft = draft if how == "argument" else {"generation_config": GenerationConfig(**draft)}
    with foveate.pruning(model, keep=0.3):
        model.generate(**inputs, **draft)  # audios stay whole, as words
    with foveate.pruning(model, keep=0.3, modalities=("audio",)):
        with pytest.raises(InputError, match="prompt_lookup_num_tokens does not work with pruned audio"):
            model.generate(**inputs, **draft)
        model.generate(**inputs, **NEW)


def test_a_model_without_its_head_is_refused(llava):
    with pytest.raises(ModelError, match="has no generate: attach to the whole model"):
        foveate.attach(llava.model, keep=0.5)
