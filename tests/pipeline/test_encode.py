"""What the vision tower knows, for the methods that need it; encoding once for many of them; merging."""

from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForImageTextToText, SiglipVisionConfig

import foveate
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.conformance.registry import to_tiny_family
from foveate.errors import InputError, ModelError
from foveate.method import Method, resolve
from foveate.method.budget import to_budget
from foveate.method.tokens import VisualTokens
from foveate.models import lookup
from foveate.models.capture import capture_inputs
from foveate.pipeline.encode import DECODER_EXTRAS, list_methods

LLAVA = lookup.family("llava")
NEEDY = [row.name for row in foveate.methods() if set(row.needs) - DECODER_EXTRAS]  # of the encoder
NEW = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}


def tiny(attention="sdpa", **changes):
    config = to_tiny_family(LLAVA).make_config()
    for name, value in changes.items():
        setattr(config, name, value)
    config.foveate_template = {}
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():  # far from uniform attention
        for layer in model.base_model.vision_tower.encoder.layers:
            layer.self_attn.q_proj.weight.mul_(20)
            layer.self_attn.k_proj.weight.mul_(20)
    return model


LAYERS = [-2, -1, 1, 3, [-1], [-2, -1], [1, -2]]


@torch.no_grad()
def slow_look(pixels, layer, strategy="default"):
    """The same from an eager model that hands out all of its attention."""
    model = tiny("eager", vision_feature_layer=layer, vision_feature_select_strategy=strategy)
    tower = model.base_model.vision_tower
    out = tower(pixels, output_attentions=True, output_hidden_states=True)
    states = [list(range(len(out.hidden_states)))[i] for i in (layer if isinstance(layer, list) else [layer])]
    skip = int(strategy == "default")
    features = torch.cat([out.hidden_states[i] for i in states], dim=-1)[:, skip:]
    deepest = max(states) - 1  # hidden state i is what layer i - 1 returns
    block = tower.encoder.layers[deepest]
    attention = out.attentions[deepest].mean(1)[:, 0, skip:]
    keys = block.self_attn.k_proj(block.layer_norm1(out.hidden_states[deepest]))[:, skip:]
    return {"encoder": features, "cls_attention": attention, "keys": keys}


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_llava_sees_what_an_eager_tower_hands_out(layer, strategy):
    model = tiny(vision_feature_layer=layer, vision_feature_select_strategy=strategy)
    inputs = make_batch(model, LLAVA, [(2, 5), (1, 3)])
    encoded = foveate.encode(model, inputs, methods=NEEDY)
    expected = slow_look(inputs["pixel_values"], layer, strategy)
    assert len(encoded.extras) == 3
    assert expected["cls_attention"].std() > 0.01
    for number, extras in enumerate(encoded.extras):
        assert extras.keys() == expected.keys()
        for name, value in extras.items():
            assert len(value) == len(encoded.outputs["image"].pooler_output[number])
            assert not value.requires_grad
            torch.testing.assert_close(value, expected[name][number], atol=1e-5, rtol=1e-4)


def test_a_layer_named_in_the_call_is_the_one_looked_at():
    model = tiny()
    inputs = {**make_batch(model, LLAVA, [(1, 5)]), "vision_feature_layer": -1}
    found = foveate.encode(model, inputs, methods=["visionzip"]).extras[0]["cls_attention"]
    torch.testing.assert_close(found, slow_look(inputs["pixel_values"], -1)["cls_attention"][0], atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="before any attention"):
        foveate.encode(model, {**inputs, "vision_feature_layer": 0}, methods=["visionzip"])


@pytest.mark.parametrize("layer", [-2, -1, [-2, -1]], ids=str)
@pytest.mark.parametrize("name", NEEDY)
@torch.no_grad()
def test_end_to_end_against_the_eager_tower(name, layer):
    """prune_inputs and generate keep, and hold, what the method says of the slow reference's extras."""
    model, method = tiny(vision_feature_layer=layer), resolve(name)
    inputs = make_batch(model, LLAVA, [(2, 5), (1, 7)])
    short = foveate.prune_inputs(model, inputs, keep=0.5, method=method)
    looked = slow_look(inputs["pixel_values"], layer)
    features = model.base_model.get_image_features(inputs["pixel_values"], return_dict=True).pooler_output
    held = []
    for number, feature in enumerate(features):
        extras = {extra: looked[extra][number] for extra in method.needs}
        tokens = VisualTokens(feature, feature[:0], (1, 4, 4), **extras)
        kept = method.select(tokens, to_budget(0.5, 16))
        assert torch.equal(short.report.items[number].kept, kept)
        mix = method.merge_weights(tokens, kept)
        held.append(feature[kept] if mix is None else mix @ feature)
    values = torch.cat(short["mm_encoder_outputs"]["image"].pooler_output)
    torch.testing.assert_close(values, torch.cat(held), atol=1e-5, rtol=1e-4)

    length = inputs["input_ids"].shape[1]
    with foveate.pruning(model, keep=0.5, method=method) as handle:
        out = model.generate(**inputs, **NEW)
        assert same_kept(handle.report, short.report)
    assert torch.equal(out[:, :length], inputs["input_ids"])
    assert torch.equal(out[:, length:], model.generate(**short, **NEW)[:, -4:])


@pytest.mark.parametrize("name", NEEDY)
def test_keeping_all_is_the_untouched_model(name):
    model = tiny()
    inputs = make_batch(model, LLAVA, [(2, 5)])
    with torch.no_grad():
        short = foveate.prune_inputs(model, inputs, keep=1.0, method=name)
        torch.testing.assert_close(model(**short).logits, model(**inputs).logits, atol=1e-5, rtol=0)


def hooks(model):
    kinds = ("_forward_pre_hooks", "_forward_hooks", "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs")
    return {name: [list(vars(m)[k]) for k in kinds] + sorted(vars(m)) for name, m in model.named_modules()}


def test_nothing_stays_on_the_model():
    model = tiny()
    inputs = make_batch(model, LLAVA, [(1, 5)])
    foveate.encode(model, inputs)  # transformers puts hooks of its own on a tower when it first runs
    before = hooks(model)
    encoded = foveate.encode(model, inputs, methods=NEEDY)
    assert hooks(model) == before
    assert encoded.outputs["image"].attentions is None
    assert encoded.outputs["image"].hidden_states is None
    assert model.base_model.vision_tower.config._attn_implementation == "sdpa"
    with pytest.raises(RuntimeError, match="mat1"):
        foveate.encode(break_projector(model), inputs, methods=NEEDY)
    assert hooks(model) == before


def break_projector(model):
    model.base_model.multi_modal_projector.linear_1.weight = torch.nn.Parameter(torch.ones(3, 3))
    return model


def test_watching_ends_with_the_block():
    layer = torch.nn.Linear(2, 2)
    with capture_inputs(layer) as seen:
        layer(torch.ones(1, 2))
        layer(input=torch.zeros(1, 2))
    layer(torch.ones(5, 2))
    assert [x.sum().item() for x in seen] == [2, 0]


def siglip():
    config = to_tiny_family(LLAVA).make_config()
    config.vision_config = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    config.vision_feature_select_strategy = "full"
    return AutoModelForImageTextToText.from_config(config).eval()


WITHOUT_CLS = {
    "qwen2_5_vl": lambda: make_tiny_model(lookup.family("qwen2_5_vl")),
    "qwen3_vl": lambda: make_tiny_model(lookup.family("qwen3_vl")),
    "siglip": siglip,
    "layer 0": lambda: tiny(vision_feature_layer=0),
}


@pytest.mark.parametrize("kind", WITHOUT_CLS)
def test_a_tower_without_cls_is_refused_before_anything_runs(kind):
    model = WITHOUT_CLS[kind]()
    for name in NEEDY:
        told = rf"{name} needs the attention of a \[CLS\] token.*{model.config.model_type}.*use one of .*divprune"
        for call in (
            lambda name=name: foveate.prune_inputs(model, {}, keep=0.5, method=name),
            lambda name=name: foveate.attach(model, keep=0.5, method=name),
            lambda name=name: foveate.encode(model, {}, methods=["divprune", name]),
        ):
            with pytest.raises(ModelError, match=told) as caught:
                call()
            others = (*NEEDY, "fastv")  # which only a few families take, and only through a handle
            assert not any(name in str(caught.value).split("use one of")[1] for name in others)
        with pytest.raises(ModelError), foveate.pruning(model, keep=0.5, method=name):
            pass
    assert "generate" not in vars(model)
    foveate.attach(model, keep=0.5, method="coin").remove()


@torch.no_grad()
def test_one_encoding_serves_every_method():
    model = tiny()
    inputs = make_batch(model, LLAVA, [(2, 5), (1, 7)])
    words = {name: value for name, value in inputs.items() if name != "pixel_values"}
    with capture_inputs(model.base_model.vision_tower) as runs:
        names = [row.name for row in list_methods(model, LLAVA)]
        encoded = foveate.encode(model, inputs, methods=names)
        ready = {name: foveate.prune_inputs(model, words, keep=5, method=name, encoded=encoded) for name in names}
        assert len(runs) == 1
    for name, short in ready.items():
        alone = foveate.prune_inputs(model, inputs, keep=5, method=name)
        assert same_kept(alone.report, short.report)
        assert torch.equal(model(**alone).logits, model(**short).logits)
    both = foveate.prune_inputs(model, inputs, keep=5, encoded=encoded)
    assert "pixel_values" not in both


@pytest.mark.parametrize("name", ["zspaprune", "coin"])
@torch.no_grad()
def test_encoded_on_every_family(model, family, name):
    inputs = make_batch(model, family, [(2, 5), (1, 7)])
    encoded = foveate.encode(model, inputs, methods=[name])
    words = {name: value for name, value in inputs.items() if name != "pixel_values"}
    one = foveate.prune_inputs(model, words, keep=0.4, method=name, encoded=encoded)
    other = foveate.prune_inputs(model, inputs, keep=0.4, method=name)
    assert torch.equal(model(**one).logits, model(**other).logits)


def test_what_encoding_cannot_do_is_said():
    model = tiny()
    inputs = make_batch(model, LLAVA, [(1, 5)])
    words = {name: value for name, value in inputs.items() if name != "pixel_values"}
    encoded = foveate.encode(model, inputs, methods=["visionzip"])
    features = {"mm_encoder_outputs": {"image": encoded.outputs["image"]}}
    with pytest.raises(InputError, match=r"no encoder, which score reads.*methods=\[\"score\"\]"):
        foveate.prune_inputs(model, words, keep=5, method="score", encoded=encoded)
    with pytest.raises(InputError, match=r"no cls_attention and keys.*pass pixel_values.*encoded=foveate\.encode"):
        foveate.prune_inputs(model, {**words, **features}, keep=5, method="visionzip")
    with pytest.raises(InputError, match="mm_encoder_outputs or encoded, not both"):
        foveate.prune_inputs(model, {**words, **features}, keep=5, encoded=encoded)
    with pytest.raises(InputError, match="pixel_values or mm_encoder_outputs, not both"):
        foveate.encode(model, {**inputs, **features})
    with pytest.raises(InputError, match="no image to encode"):
        foveate.encode(model, words)
    with pytest.raises(InputError, match="image placeholders"):
        foveate.prune_inputs(model, make_batch(model, LLAVA, [(2, 5)]), keep=5, encoded=encoded)
    foveate.prune_inputs(model, {**words, **features}, keep=5, method="coin")


@pytest.mark.parametrize("name", NEEDY)
def test_a_loss_reaches_the_tower(name):
    model = tiny().train()
    inputs = make_batch(model, LLAVA, [(1, 5)])
    short = foveate.prune_inputs(model, {**inputs, "labels": inputs["input_ids"].clone()}, keep=5, method=name)
    with torch.autocast("cpu", torch.bfloat16):
        model(**short).loss.backward()
    assert model.base_model.vision_tower.embeddings.patch_embedding.weight.grad.abs().sum() > 0


@dataclass(frozen=True)
class Mean(Method):
    """Every kept token holds half of itself and half of the mean of all."""

    name = "mean"
    paper = "test"
    summary = "test"
    prompt_aware = False

    def _select(self, tokens, k, selected):
        return torch.arange(k)

    def _merge_weights(self, tokens, kept):
        n = len(tokens.embeds)
        return torch.eye(n)[kept] / 2 + 1 / (2 * n)


@dataclass(frozen=True)
class Same(Mean):
    """Merging that merges nothing."""

    def _merge_weights(self, tokens, kept):
        return torch.eye(len(tokens.embeds))[kept]


@dataclass(frozen=True)
class Plain(Mean):
    """No merging at all."""

    def _merge_weights(self, tokens, kept):
        return None


def values(output):
    return [
        *output.pooler_output,
        *(row for level in (getattr(output, "deepstack_features", None) or []) for row in level),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_every_level_of_every_family_is_merged_alike(model, family, dtype):
    model.to(dtype)
    inputs = make_batch(model, family, [(2, 5), (1, 7)])
    whole, merged, same, plain = (
        values(foveate.prune_inputs(model, inputs, keep=keep, method=method)["mm_encoder_outputs"]["image"])
        for keep, method in ((0.99, Plain()), (0.99, Mean()), (3, Same()), (3, Plain()))
    )
    assert all(torch.equal(a, b) for a, b in zip(same, plain, strict=True))
    sizes = [item.total for item in foveate.prune_inputs(model, inputs, keep=1.0).report.items]
    for before, after in zip(whole, merged, strict=True):
        assert after.dtype == dtype
        images = before.float().split(sizes[:2] if len(before) == sum(sizes[:2]) else sizes[2:])
        expected = torch.cat([image / 2 + image.mean(0) / 2 for image in images])
        torch.testing.assert_close(after, expected.to(dtype), atol=1e-5 if dtype == torch.float32 else 1e-2, rtol=1e-2)


def same_kept(one, other):
    pairs = zip(one.items, other.items, strict=True)
    return all(torch.equal(a.kept, b.kept) for a, b in pairs)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*numbers the text after a video.*:foveate.FoveateWarning")
@pytest.mark.parametrize("modality", ["image", "video"])
def test_images_come_before_videos_whichever_was_encoded_before(modality):
    family = lookup.family("qwen2_5_vl")
    model = make_tiny_model(family)
    inputs = make_batch(model, family, [(("video", "image"), 4)])
    names = {"image": ("pixel_values", "image_grid_thw"), "video": ("pixel_values_videos", "video_grid_thw")}
    encoded = foveate.encode(model, {name: inputs[name] for name in names[modality]})
    short = foveate.prune_inputs(model, inputs, keep=0.4, encoded=encoded)
    assert [item.modality for item in short.report.items] == ["image", "video"]
    assert list(dict(short)["mm_encoder_outputs"]) == ["image", "video"]
    plain = foveate.prune_inputs(model, inputs, keep=0.4)
    assert torch.equal(model(**short).logits, model(**plain).logits)
