"""Every private or undocumented name of transformers that foveate stands on; each says what breaks when it goes.

The laws would fail too, but not say why.
"""

import importlib
import inspect
import re
from types import SimpleNamespace

import pytest
import torch
from transformers import CONFIG_MAPPING, DynamicCache, PreTrainedConfig, StaticCache
from transformers.generation import GenerationMixin

from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.models import lookup
from foveate.models.base import Family
from foveate.models.cache import NAMES, cache_name, cache_of
from foveate.models.outputs import KeptOutput, KeptState
from foveate.models.sequence import ATTEND

NEW = {"max_new_tokens": 2, "min_new_tokens": 2, "do_sample": False}
# One of each kind: positions that count, M-RoPE, DeepStack.
KINDS = ("llava", "qwen2_5_vl", "qwen3_vl")


def seen_by_forward(model, **inputs):
    """The keyword arguments of every call to the model's forward that `generate` makes."""
    calls = []
    hook = model.register_forward_pre_hook(lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True)
    try:
        model.generate(**inputs, **NEW)
    finally:
        hook.remove()
    return calls


def parameters(function):
    return set(inspect.signature(function).parameters)


# -- the table of models -----------------------------------------------------------------------------------------------


def test_the_list_of_image_text_models():
    """`foveate families` lists what this mapping names; without it there is no table."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MAPPING

    assert MAPPING["llava"] == "LlavaForConditionalGeneration"


def test_the_table_of_configurations():
    """`conformance.tiny_config` makes configurations by model type, and finds the parts of one by their class."""
    config = CONFIG_MAPPING["llava"]()
    assert isinstance(config.text_config, PreTrainedConfig)
    assert config.get_text_config() is config.text_config


def test_special_tokens_are_fields_of_the_configuration():
    """`question.default_template` and `tiny_config` look through vars(config) for names that end like this."""
    assert "image_token_id" in vars(CONFIG_MAPPING["qwen2_5_vl"]())


def test_remote_code_is_told_by_its_module():
    """`lookup.family_of` refuses classes of this package, as which transformers loads a repository's own code."""
    from transformers import dynamic_module_utils

    assert dynamic_module_utils.TRANSFORMERS_DYNAMIC_MODULE_NAME == "transformers_modules"


# -- encoders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", lookup.available())
def test_forward_takes_encoded_pictures(model_type):
    """Families without a seam of their own hand shortened images over in `mm_encoder_outputs`."""
    family = lookup.family(model_type)
    if not family.traits.in_sequence or type(family).shorten is not Family.shorten:
        pytest.skip("has a seam of its own")
    model = make_tiny_model(family)
    names = parameters(model.forward) | parameters(model.base_model.forward)
    assert "mm_encoder_outputs" in names, "`prune_inputs` cannot hand over tokens"


@pytest.mark.parametrize("model_type", KINDS)
@torch.no_grad()
def test_encoders_pool_a_tensor_a_picture(model_type):
    """`Family.encode` calls base_model.get_image_features and reads one entry of pooler_output for every picture."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(2, 3)])
    encoder = model.base_model.get_image_features
    assert "pixel_values" in parameters(encoder), "`Family.encoder_inputs` picks inputs by these names"
    output = encoder(**family.encoder_inputs(model, inputs), return_dict=True)
    assert len(output.pooler_output) == 2
    assert all(tokens.ndim == 2 for tokens in output.pooler_output)
    assert (getattr(output, "deepstack_features", None) is not None) == (model_type == "qwen3_vl")


@torch.no_grad()
def test_beams_repeat_the_pooled_tokens_of_each_row_in_order(llava):
    """`kept.stack_rows` makes an entry of every token where rows keep different numbers: beams keep their order."""
    ids = torch.full((2, 3), llava.config.image_token_id)
    ids[1, 2] = 9
    tokens = torch.arange(5.0)[:, None, None]
    for output in (KeptOutput(tokens), KeptOutput(pooler_output=list(tokens)), KeptState(tokens)):
        expanded = llava._expand_multimodal_outputs(ids, {"image": output}, expand_size=2)["image"]
        assert expanded is output, "`PrunedInputs` hands out a fresh one, for generate changes the one it is given"
        assert [int(token) for token in expanded.pooler_output] == [0, 1, 2, 0, 1, 2, 3, 4, 3, 4]


def test_hooks_of_accelerate_rebuild_outputs_from_a_mapping():
    """`device_map` sends `mm_encoder_outputs` entry by entry to another device, and makes them anew from a dict."""
    from accelerate.utils import send_to_device

    kept = send_to_device(KeptOutput(pooler_output=[torch.ones(2, 4)], is_tensor=True), "cpu")
    assert [type(kept), kept.pooler_output[0].shape, kept.is_tensor] == [KeptOutput, (2, 4), True]
    state = send_to_device(KeptState(pooler_output=torch.ones(1, 2, 4)), "cpu")
    assert [type(state), state.last_hidden_state.shape] == [KeptState, (1, 2, 4)]


@torch.no_grad()
def test_what_is_read_of_a_clip_tower(llava):
    """`family.llava` recomputes one attention row and the features from these, for the methods that need [CLS]."""
    core = llava.base_model
    tower = getattr(core.vision_tower, "vision_model", core.vision_tower)
    attention = tower.encoder.layers[0].self_attn
    assert {"num_heads", "head_dim", "scale"} <= set(vars(attention))
    assert {"q_proj", "k_proj"} <= set(attention._modules)
    assert attention.num_heads * attention.head_dim == attention.q_proj.out_features
    assert isinstance(core.multi_modal_projector, torch.nn.Module)
    assert isinstance(llava.config.vision_feature_layer, int)


def test_the_newline_of_tiled_pictures():
    """`family.llava_next` knows the tokens at the ends of rows by this vector, and never drops them."""
    model = make_tiny_model(lookup.family("llava_next"))
    assert model.base_model.image_newline.shape == (model.config.text_config.hidden_size,)


def test_the_parts_of_blip_2():
    """`family.blip_2` runs tower, Q-Former and projection one by one, with fewer patches between them."""
    model = make_tiny_model(lookup.family("blip-2"))
    assert {"query_embeds", "encoder_hidden_states", "encoder_attention_mask"} <= parameters(model.qformer.forward)
    assert {"vision_model", "qformer", "language_projection", "language_model"} <= set(model._modules)
    assert model.query_tokens.shape[1] == model.config.num_query_tokens


def test_the_encoder_of_an_encoder_decoder():
    """`family.florence2` adds positions of its own to the embedded words: the encoder's table, from its offset on."""
    encoder = make_tiny_model(lookup.family("florence2")).get_encoder()
    places = torch.tensor([[0, 5, 9]])
    added = encoder.embed_positions(places, position_ids=places)
    assert torch.equal(added[0], encoder.embed_positions.weight[places + encoder.embed_positions.offset])
    assert {"inputs_embeds", "attention_mask"} <= parameters(encoder.forward)


# -- positions and masks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["qwen2_5_vl", "qwen3_vl"])
def test_positions_of_m_rope(model_type):
    """`Family.positions` asks the model for three axes and picks the arguments by these names."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(1, 3)])
    names = {"input_ids", "image_grid_thw", "attention_mask", "mm_token_type_ids"}
    assert names <= parameters(model.base_model.get_rope_index)
    axes, _ = model.base_model.get_rope_index(**{name: inputs[name] for name in names})
    assert axes.shape == (3, *inputs["input_ids"].shape)


@pytest.mark.parametrize("model_type", ["llava", "qwen2_5_vl"])
@torch.no_grad()
def test_generate_goes_on_at_the_given_positions(model_type):
    """Pruned prompts come with positions that have gaps: the next token must follow the last of them, not a count."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(0, 6)])
    positions = torch.arange(0, 2 * inputs["input_ids"].shape[1], 2)[None]
    given = positions if model_type == "llava" else positions.expand(4, 1, -1).clone()
    mask = {"attention_mask": inputs["attention_mask"] * ATTEND}
    first, second = seen_by_forward(model, **{**inputs, **mask, "position_ids": given})
    assert torch.equal(first["position_ids"], given)
    assert torch.equal(second["position_ids"], given[..., -1:] + 1)


@torch.no_grad()
def test_generate_drops_a_mask_of_ones_and_no_other(llava):
    """`sequence.ATTEND`: a mask of twos is kept, so that gaps in the positions are no borders of packed sequences."""
    inputs = make_batch(llava, lookup.family("llava"), [(0, 6)])
    for value, kept in ((1, False), (ATTEND, True)):
        first = seen_by_forward(llava, **{**inputs, "attention_mask": inputs["attention_mask"] * value})[0]
        assert (first.get("attention_mask") is not None) == kept


@torch.no_grad()
def test_any_number_but_zero_in_a_mask_means_attend(llava):
    """`sequence.ATTEND` must mean what 1 means."""
    inputs = make_batch(llava, lookup.family("llava"), [(0, 6), (0, 3)])
    twos = {**inputs, "attention_mask": inputs["attention_mask"] * ATTEND}
    assert torch.equal(llava(**twos).logits, llava(**inputs).logits)


def test_gaps_without_a_mask_are_borders_of_packed_sequences(llava):
    """The trap that `sequence.ATTEND` is for; `test_laws` tells when it is no longer needed."""
    ids = torch.arange(10, 16)[None]
    gapped = torch.tensor([[0, 1, 2, 7, 8, 9]])
    with torch.no_grad():
        bare = llava(input_ids=ids, position_ids=gapped, use_cache=False).logits
        masked = llava(input_ids=ids, position_ids=gapped, attention_mask=torch.ones_like(ids)).logits
    assert not torch.allclose(bare, masked, atol=1e-3)


@torch.no_grad()
def test_generate_hides_padding_where_there_is_no_mask(llava):
    """`generate.make_mask` does the same, so that a handle chooses on what the model will see."""
    ids = torch.tensor([[302, 302, 10, 11, 12]])
    first = seen_by_forward(llava, input_ids=ids, pad_token_id=302, eos_token_id=301)[0]
    assert first["attention_mask"].tolist() == [[0, 0, 1, 1, 1]]
    first = seen_by_forward(llava, input_ids=ids, pad_token_id=302, eos_token_id=302)[0]
    assert first.get("attention_mask") is None


def test_the_mask_of_one_layer():
    """`decoder.call` makes a mask for the one layer whose cache is shorter than the others'."""
    from transformers.masking_utils import create_causal_mask

    names = {"config", "inputs_embeds", "attention_mask", "layer_idx", cache_name(create_causal_mask)}
    assert names <= parameters(create_causal_mask)


@torch.no_grad()
def test_the_mask_of_tiles_is_stretched_by_repeat_interleave_along_axis_3():
    """`family.mllama._Mask` stays one column a token there; by `ne`, `masked_fill`, `mul_` it makes the rest."""
    module = importlib.import_module("transformers.models.mllama.modeling_mllama")
    called = []

    class Looked(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            called.append((func.__name__, dict(kwargs or {}).get("dim")))
            return super().__torch_function__(func, types, args, kwargs or {})

    marks = torch.ones(1, 3, 1, 2).as_subclass(Looked)
    module._prepare_cross_attention_mask(marks, num_vision_tokens=5, dtype=torch.float32)
    assert ("repeat_interleave", 3) in called
    assert {"__rsub__", "masked_fill", "ne", "mul_"} <= {name for name, _ in called}


# -- generate ----------------------------------------------------------------------------------------------------------


def test_generate_takes_the_size_of_a_batch_from_the_first_tensor(llava):
    """`Family.embed` puts inputs_embeds first for that reason: position ids of M-RoPE begin with their axes."""
    embeds, positions = torch.zeros(2, 5, 64), torch.zeros(4, 2, 5)
    right = llava._maybe_initialize_input_ids_for_generation(None, None, {"inputs_embeds": embeds, "p": positions})
    wrong = llava._maybe_initialize_input_ids_for_generation(None, None, {"p": positions, "inputs_embeds": embeds})
    assert [len(right), len(wrong)] == [2, 4]


@torch.no_grad()
def test_generate_from_embeddings_returns_new_tokens_alone(llava):
    """`generate.restore_prompt` puts the caller's prompt in front of them."""
    embeds = llava.get_input_embeddings()(torch.arange(10, 15)[None])
    assert llava.generate(inputs_embeds=embeds, **NEW).shape == (1, 2)


@torch.no_grad()
def test_drafts_from_embeddings_lose_the_mask(llava):
    """`hooks.generate.check_unassisted` refuses them for that reason; it can go when this fails."""
    embeds = llava.get_input_embeddings()(torch.arange(10, 15)[None])
    mask = torch.full((1, 5), ATTEND)
    calls = seen_by_forward(llava, inputs_embeds=embeds, attention_mask=mask, prompt_lookup_num_tokens=2)
    assert calls[0]["attention_mask"].shape == (1, 0)


def test_models_that_cannot_go_back_say_so(llava):
    """The law of decoding modes leaves assistants out where this is set."""
    assert llava._is_stateful is False
    assert make_tiny_model(lookup.family("qwen3_5"))._is_stateful is True


def test_lengths_live_in_the_generation_configuration(llava):
    """`handle._shorter_limits` takes off what the prompt lost, `handle._setting` looks the others up."""
    names = ("max_length", "min_length", "max_new_tokens", "min_new_tokens", "pad_token_id", "eos_token_id")
    assert all(hasattr(llava.generation_config, name) for name in names)
    assert {"assistant_model", "inputs"} <= parameters(GenerationMixin.generate)
    assert hasattr(llava.generation_config, "prompt_lookup_num_tokens")


# -- caches ------------------------------------------------------------------------------------------------------------


def test_the_name_of_the_cache(llava):
    """`cache.NAMES`: models and their outputs must use one of these."""
    assert cache_name(type(llava).forward) in NAMES
    with torch.no_grad():
        assert isinstance(cache_of(llava(input_ids=torch.arange(10, 15)[None], use_cache=True)), DynamicCache)


def test_a_cache_has_a_length_by_layer(llava):
    """In-decoder methods leave layers of different length, and refuse caches that have one length for all."""
    with torch.no_grad():
        cache = cache_of(llava(input_ids=torch.arange(10, 15)[None], use_cache=True))
    assert [cache.get_seq_length(layer) for layer in range(2)] == [5, 5]
    assert [layer.keys.shape[-2:] for layer in cache.layers] == [layer.values.shape[-2:] for layer in cache.layers]
    assert not cache.is_compileable
    assert StaticCache(config=llava.config.text_config, max_cache_len=8).is_compileable


def test_an_empty_cache_of_cross_attention_counts_as_filled_by_the_first_call():
    """`family.mllama._States` gives no state once the mask was cut to the new words: the layers then add nothing."""
    module = importlib.import_module("transformers.models.mllama.modeling_mllama")
    projected = []
    cache = SimpleNamespace(update=lambda keys, values, *_, **__: projected.append(keys.shape) or (keys, values))
    attention = module.MllamaTextCrossAttention(
        make_tiny_model(lookup.family("mllama")).config.text_config, layer_idx=1
    )
    assert {"cross_attention_states", cache_name(attention.forward)} <= parameters(attention.forward)
    with torch.no_grad():
        states = torch.ones(1, 0, attention.hidden_size)
        attention(torch.ones(1, 1, attention.hidden_size), states, **{cache_name(attention.forward): cache})
    assert [shape[-2] for shape in projected] == [0]


# -- the decoder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", KINDS)
@torch.no_grad()
def test_what_is_read_of_a_decoder_layer(model_type):
    """`decoder.attention.Keys` computes a few rows of a layer's attention, `decoder.call` cuts what goes into it."""
    family = lookup.family(model_type)
    model = make_tiny_model(family)
    layer = family.decoder(model).layers[0]
    calls = []
    hook = layer.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    model(**make_batch(model, family, [(1, 3)]))
    hook.remove()
    ((args, kwargs),) = calls
    assert args[0].ndim == 3, "the hidden states are the first positional argument"
    cos, sin = kwargs["position_embeddings"]
    assert cos.shape == sin.shape
    assert {"attention_mask", "position_ids"} <= set(kwargs)
    assert {"q_proj", "k_proj"} <= set(layer.self_attn._modules)
    assert layer.self_attn.scaling == pytest.approx(layer.self_attn.head_dim**-0.5)
    assert isinstance(layer.input_layernorm, torch.nn.Module)


# -- the bundled models ------------------------------------------------------------------------------------------------


def test_training_puts_attention_of_its_own_in():
    """`make train` registers functions by name and switches to them in a configuration; windows come from a helper."""
    from transformers import AttentionInterface
    from transformers.vision_utils import get_vision_window_index

    assert callable(AttentionInterface.register)
    assert "_attn_implementation" in dir(CONFIG_MAPPING["clip_vision_model"]())
    assert callable(get_vision_window_index)


# -- trainers ----------------------------------------------------------------------------------------------------------


def test_where_a_trainer_counts_labels():
    """`hooks.trainers` takes placeholders out of the labels there, before the count; else the loss has a wrong mean."""
    from transformers import Trainer

    from foveate.hooks.trainers import COUNT

    assert list(inspect.signature(getattr(Trainer, COUNT)).parameters) == ["self", "batch_samples", "device"]
    assert COUNT in inspect.getsource(Trainer.get_batch_samples)
    assert {"label_smoother", "compute_loss_func"} <= set(re.findall(r"self\.(\w+)", inspect.getsource(Trainer)))


# -- some patches through a tower --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("get_vision_position_ids", ["position_ids"]),
        ("get_vision_cu_seqlens", ["cu_seqlens"]),
        ("get_vision_interpolation_indices_and_weights", ["interp_indices", "interp_weights"]),
        ("get_vision_window_index", ["window_index", "cu_window_seqlens"]),
    ],
)
def test_towers_take_the_places_of_patches_as_arguments(name, keys):
    """`models.patch_encoder` computes these as the towers do, and hands them to the towers under these names."""
    source = inspect.getsource(getattr(importlib.import_module("transformers.vision_utils"), name))
    assert all(f'kwargs.pop("{key}", None)' in source for key in keys)
