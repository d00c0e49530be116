"""What stays on the model, and what is refused."""

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, StaticCache
from transformers.models.auto import CONFIG_MAPPING

import foveate
from caches import with_cache
from compare import state
from decoder_reference import deep_model
from foveate import FastV
from foveate.conformance.batches import make_batch
from foveate.conformance.registry import to_tiny_family
from foveate.errors import FoveateError, FoveateWarning, InputError, KeepError, ModelError
from foveate.hooks.attention import Keys
from foveate.models import lookup
from foveate.models.cache import cache_of

pytestmark = pytest.mark.usefixtures("no_grad")

NEW = {"max_new_tokens": 3, "min_new_tokens": 3}


@pytest.fixture
def model(family):
    return deep_model(family)


@pytest.fixture
def inputs(model, family):
    return make_batch(model, family, [(2, 5), (1, 7)])


@pytest.mark.parametrize("method", ["fastv", "pyramiddrop", "sparsevlm"])
def test_remove_leaves_no_trace(model, inputs, method):
    stock, before = model(**inputs).logits, state(model)
    handle = foveate.attach(model, keep=0.3, method=method)
    assert state(model) != before
    model.generate(**inputs, **NEW)
    handle.remove()
    handle.remove()
    assert state(model) == before
    assert torch.equal(model(**inputs).logits, stock)


class Mine(Exception):
    pass


def test_nothing_is_left_after_an_exception_inside_forward(model, inputs):
    stock, before, last = model(**inputs).logits, state(model), model.base_model.language_model.layers[-1]

    def fail(*_):
        raise Mine

    with foveate.pruning(model, keep=0.3, method="fastv") as handle:
        broken = last.register_forward_pre_hook(fail)
        with pytest.raises(Mine):
            model(**inputs)
        broken.remove()
        assert handle.last_report is None
        # Not through the model's own forward: a call that is still open would cut this one down.
        embeds = model.get_input_embeddings()(inputs["input_ids"].clamp(max=200))
        whole = model.base_model.language_model(inputs_embeds=embeds).last_hidden_state
        model(**inputs)
        assert handle.last_report is not None
    assert state(model) == before
    assert torch.equal(model.base_model.language_model(inputs_embeds=embeds).last_hidden_state, whole)
    assert torch.equal(model(**inputs).logits, stock)


def test_a_block_left_by_an_error_leaves_nothing(model):
    before = state(model)
    with pytest.raises(Mine), foveate.pruning(model, keep=0.3, method="fastv"):
        raise Mine
    assert state(model) == before


def test_the_stock_generate_stays(model, inputs):
    with foveate.pruning(model, keep=0.3, method="fastv") as handle:
        assert "generate" not in vars(model)
        out = model.generate(**inputs, **NEW)
        total = inputs["input_ids"].shape[1] + 3
        assert torch.equal(model.generate(**inputs, min_new_tokens=3, max_length=total), out)
    assert out.shape == (2, total)
    assert handle.report.method == "fastv"


def test_report_tells_the_grids_of_a_forward_call(model, inputs):
    with foveate.pruning(model, keep=0.3, method="pyramiddrop") as handle:
        model(**inputs)
    assert [math.prod(item.grid) for item in handle.report.items] == [item.total for item in handle.report.items]
    assert handle.report.seconds > 0
    assert handle.report.notes == ()


def test_handles_of_both_kinds_do_not_mix(model):
    before = state(model)
    for first, second in (("fastv", "divprune"), ("divprune", "fastv"), ("fastv", "pyramiddrop")):
        with (
            foveate.pruning(model, keep=0.3, method=first),
            pytest.raises(InputError, match="remove its handle"),
        ):
            foveate.attach(model, keep=0.3, method=second)
    assert state(model) == before


def test_bad_settings_attach_nothing(model):
    before = state(model)
    with pytest.raises(KeepError):
        foveate.attach(model, keep=0, method="fastv")
    with pytest.raises(InputError, match="stay in place"):
        foveate.attach(model, keep=0.3, method="fastv", positions="compact")
    with pytest.raises(InputError, match="from 1 to 5"):
        foveate.attach(model, keep=0.3, method=FastV(layer=6))
    with pytest.raises(FoveateError):
        foveate.attach(torch.nn.Linear(1, 1), keep=0.3, method="fastv")
    assert state(model) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda i: {**i, "labels": i["input_ids"]}, "leave the labels out"),
        (lambda i: {**i, "logits_to_keep": torch.tensor([3])}, "give an int"),
        (lambda i: {**i, "attention_mask": torch.ones(2, 1, 4, 4)}, "attention_mask has shape"),
        (lambda i: {**i, "attention_mask": i["attention_mask"] * 0}, "hides image placeholders"),
        (lambda i: {**i, "input_ids": None, "inputs_embeds": torch.zeros(2, 4, 64)}, "inputs_embeds hide"),
        (lambda i: {**i, "input_ids": i["input_ids"].clamp(max=200)}, "no placeholder is left"),
        (lambda i: {**i, "pixel_values_videos": i["pixel_values"]}, "prunes images, not videos"),
        (lambda i: {**i, "mm_encoder_outputs": {"video": 1}}, "prunes images, not videos|not both"),
        (
            lambda i: {**i, "attention_mask": None, "position_ids": torch.arange(99)[: i["input_ids"].shape[1]] // 2},
            None,
        ),
    ],
)
def test_what_cannot_be_right_is_refused(model, inputs, change, told):
    changed = change(inputs)
    if told is None:
        changed["position_ids"] = changed["position_ids"].expand(2, -1)
        told = "packed sequences"
    with foveate.pruning(model, keep=0.3, method="fastv") as handle:
        with pytest.raises(FoveateError, match=told):
            model(**changed)
        model.generate(**inputs, **NEW)
    assert handle.report.items


def test_a_picture_at_the_end_is_refused(model, family):
    inputs = make_batch(model, family, [(1, 4)])
    end = int((inputs["input_ids"][0] == family.token_id(model.config)).nonzero().max()) + 1
    short = {n: v[:, :end] if v.shape == inputs["input_ids"].shape else v for n, v in inputs.items()}
    with foveate.pruning(model, keep=0.3, method="fastv"), pytest.raises(InputError, match="No text follows"):
        model(**short)


def test_a_question_before_the_picture_is_noted(family):
    model = deep_model(family)
    inputs = make_batch(model, family, [(1, 1)])
    with foveate.pruning(model, keep=0.3, method="sparsevlm") as handle:
        ids = with_control_at_the_end(inputs["input_ids"], model)
        with pytest.warns(FoveateWarning, match="prompt's last token"):
            model(**{**inputs, "input_ids": ids})
    assert "prompt's last token" in handle.report.notes[0]


def with_control_at_the_end(ids, model):
    ids = ids.clone()
    after = int((ids[0] == model.config.image_token_id).nonzero().max()) + 1
    ids[0, after:] = 301 if model.config.model_type == "llava" else 304
    return ids


def test_caches_that_cannot_be_gone_on_from_are_refused(model, inputs):
    one = {"input_ids": inputs["input_ids"][:, :1]}
    with foveate.pruning(model, keep=0.3, method="fastv"):
        cache = cache_of(model(**inputs, use_cache=True))
        with pytest.raises(InputError, match="is filled, and this call does not tell with what"):
            model(**inputs, **with_cache(model, cache))
        with pytest.raises(InputError, match="2 rows"):
            model(input_ids=one["input_ids"][:1], **with_cache(model, cache))
        with pytest.raises(InputError, match="pass the mask of both"):
            model(**one, **with_cache(model, cache), attention_mask=torch.ones(2, 1, dtype=torch.long))
        cache.crop(-2)
        with pytest.raises(InputError, match="cut back"):
            model(**one, **with_cache(model, cache))


def test_a_cache_of_another_handle_is_refused(model, inputs):
    one = {"input_ids": inputs["input_ids"][:, :1]}
    with foveate.pruning(model, keep=0.3, method="fastv"):
        layers = cache_of(model(**inputs, use_cache=True))
    with foveate.pruning(model, keep=0.3):
        prompt = cache_of(model(**inputs, use_cache=True))
        with pytest.raises(InputError, match="another method"):
            model(**one, **with_cache(model, layers))
        with pytest.raises(InputError, match="another method"):
            model.generate(**one, **with_cache(model, layers), max_new_tokens=2)
    with foveate.pruning(model, keep=0.3, method="fastv"):
        for cache in (layers, prompt, copy.deepcopy(layers)):
            with pytest.raises(InputError, match="not by this handle"):
                model(**one, **with_cache(model, cache))


def test_copies_of_a_cache_and_reordered_rows_go_on(model, family, inputs):
    tokens = inputs["input_ids"][:, :2]
    # Without positions the stock model takes those of the rows as they were.
    ends = family.positions(model, inputs, inputs["attention_mask"])[..., -1:]
    positions = (ends[1:] if ends.ndim == 3 else ends) + torch.tensor([1, 2])

    def go_on(cache, rows):
        own = {"input_ids": tokens[rows], "position_ids": positions[..., rows, :]}
        return model(**own, **with_cache(model, cache)).logits

    with foveate.pruning(model, keep=0.3, method="fastv"):
        cache = cache_of(model(**inputs, use_cache=True))
        twin, beams = copy.deepcopy(cache), copy.deepcopy(cache)
        expected = go_on(cache, [0, 1])
        twin.reorder_cache(torch.tensor([1, 0]))
        beams.batch_repeat_interleave(2)
        beams.reorder_cache(torch.tensor([3, 0, 1, 2]))
        for other, rows in ((twin, [1, 0]), (beams, [1, 0, 0, 1])):
            torch.testing.assert_close(go_on(other, rows), expected[rows], atol=1e-5, rtol=0)


def test_a_cache_takes_no_tokens_between_calls(model, inputs):
    one = {"input_ids": inputs["input_ids"][:, :1]}
    with foveate.pruning(model, keep=0.3, method="fastv"):
        cache = cache_of(model(**inputs, use_cache=True))
        model(**one, **with_cache(model, cache))
        states = torch.zeros(2, 4, 1, 16)
        with pytest.raises(InputError, match="not being pruned"):
            cache.update(states, states, 0)


def test_a_cache_whose_layers_differ_was_pruned(model, inputs):
    one = {"input_ids": inputs["input_ids"][:, :1]}
    words = {"input_ids": inputs["input_ids"][:, -3:]}
    even, odd = (cache_of(model(**words, use_cache=True)) for _ in range(2))
    layer = odd.layers[-1]
    layer.keys, layer.values = layer.keys[:, :, 1:], layer.values[:, :, 1:]
    with foveate.pruning(model, keep=0.3, method="fastv"):
        model(**one, **with_cache(model, even))
        with pytest.raises(InputError, match="not by this handle"):
            model(**one, **with_cache(model, odd))


def test_the_base_model_called_directly_is_refused(model, inputs):
    with foveate.pruning(model, keep=0.3, method="fastv"):
        with pytest.raises(FoveateError, match="was called past"):
            model.base_model(**inputs)
        model(**inputs)


@dataclass(frozen=True)
class Anywhere(FastV):
    places: tuple[int, ...] = (1,)

    def layers(self, depth):
        return self.places


@pytest.mark.parametrize("places", [(), (0, 2), (2, 1), (1, 1), (2, 6)])
def test_drops_that_no_layer_precedes_are_refused(model, places):
    with pytest.raises(InputError, match="choose ascending layers from 1 to 5"):
        foveate.attach(model, keep=0.3, method=Anywhere(places=places))


def test_static_cache_is_refused(model, inputs):
    with foveate.pruning(model, keep=0.3, method="fastv") as handle:
        with pytest.raises(InputError, match="static cache"):
            model.generate(**inputs, **NEW, cache_implementation="static", disable_compile=True)
        static = StaticCache(config=model.config.get_text_config(), max_cache_len=99)
        with pytest.raises(InputError, match="static cache"):
            model(**inputs, **with_cache(model, static))
        assert handle.last_report is None


def test_positional_arguments(llava):
    model = deep_model(lookup.family("llava"))
    inputs = make_batch(model, foveate.models.family_of(model), [(1, 5)])
    with foveate.pruning(model, keep=0.3, method="fastv") as handle:
        one = model(inputs["input_ids"], inputs["pixel_values"]).logits
        assert torch.equal(one, model(**inputs).logits)
        assert len(handle.report.items[0].kept) == 5


TEXTS = {
    "llama": {}, "mistral": {"sliding_window": None}, "qwen2": {}, "qwen3": {"head_dim": 8},
}  # fmt: skip


def llava_on(kind, **extra):
    config = to_tiny_family(lookup.family("llava")).make_config()
    common = {k: getattr(config.text_config, k) for k in (
        "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
        "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
    )}  # fmt: skip
    text = CONFIG_MAPPING[kind](**common, num_hidden_layers=3, **extra)
    torch.manual_seed(0)
    whole = LlavaConfig(
        vision_config=config.vision_config, text_config=text, image_token_index=303, vision_feature_layer=-2,
        image_seq_length=16, attn_implementation="eager",
    )  # fmt: skip
    return LlavaForConditionalGeneration(whole).eval()


@pytest.mark.parametrize("kind", list(TEXTS))
def test_rows_are_what_the_layer_itself_computes(kind):
    check_rows(llava_on(kind, **TEXTS[kind]), lookup.family("llava"))


def test_rows_are_what_the_layer_itself_computes_in_every_family(family):
    check_rows(deep_model(family, attention="eager"), family)


def check_rows(model, family):
    inputs, seen = make_batch(model, family, [(2, 5), (1, 9)]), {}
    layer = model.base_model.language_model.layers[1]

    def look(_, args, kwargs):
        real = inputs["attention_mask"].bool()
        seen["keys"] = Keys(layer, args[0], kwargs["position_embeddings"], real)

    hooks = [
        layer.register_forward_pre_hook(look, with_kwargs=True),
        layer.self_attn.register_forward_hook(lambda _, a, out: seen.update(weights=out[1])),
    ]
    model(**{**inputs, "position_ids": family.positions(model, inputs, inputs["attention_mask"])})
    for hook in hooks:
        hook.remove()
    length = inputs["input_ids"].shape[1]
    queries = torch.tensor([length - 1, length - 3])
    for row in range(2):
        torch.testing.assert_close(seen["keys"].rows(row, queries), seen["weights"][row][:, queries])


def test_unknown_text_stacks_are_refused():
    with pytest.raises(ModelError, match="'gemma'"):
        foveate.attach(llava_on("gemma", head_dim=16), keep=0.3, method="fastv")
    with pytest.raises(ModelError, match="sliding-window"):
        foveate.attach(llava_on("mistral", sliding_window=8), keep=0.3, method="fastv")
