"""The laws hold on every published combination of parts, not only on the one that a family's tiny model has."""

import pytest
import torch

from foveate.conformance import laws, reference
from foveate.conformance.batches import make_batch, make_tiny_model
from foveate.models import lookup
from foveate.pipeline.prune import prune_inputs

pytestmark = pytest.mark.filterwarnings("ignore:.*generation_config.*:Warning")

IDS = {"bos_token_id": 300, "eos_token_id": 301, "pad_token_id": 302}
T5 = {
    "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "vocab_size": 320,
    "decoder_start_token_id": 302, "eos_token_id": 301, "pad_token_id": 302,
}  # fmt: skip
SIGLIP = {"model_type": "siglip_vision_model", "vision_use_head": False}
PIXTRAL = {"model_type": "pixtral", "image_size": 32, "patch_size": 8}

# Each with a checkpoint that has it.
VARIANTS = {
    "Salesforce/blip2-flan-t5-xl": ("blip-2", {"text_config": T5}),
    "Salesforce/instructblip-flan-t5-xl": ("instructblip", {"text_config": T5}),
    "Salesforce/instructblip-vicuna-7b": ("instructblip", {"text_config": {"model_type": "llama", **IDS}}),
    "mistral-community/pixtral-12b": (
        "llava",
        {
            "vision_config": PIXTRAL, "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
            "text_config": {"model_type": "mistral", "sliding_window": None, **IDS},
        },
    ),
    "xtuner/llava-phi-3-mini-hf": ("llava", {"text_config": {"model_type": "phi3", **IDS}}),
    "ibm-granite/granite-vision-3.3-2b": (
        "llava_next",
        {
            "text_config": {"model_type": "granite"}, "vision_config": SIGLIP, "vision_feature_layer": [-2, -1],
            "vision_feature_select_strategy": "full",
        },
    ),
    "llava-hf/llama3-llava-next-8b-hf": ("llava_next", {"text_config": {"model_type": "llama"}}),
    "llava-hf/llava-next-72b-hf": ("llava_next", {"text_config": {"model_type": "qwen2"}}),
    "llava-hf/LLaVA-NeXT-Video-7B-32K-hf": (
        "llava_next_video", {"text_config": {"model_type": "mistral", "sliding_window": None}}
    ),
    "mistralai/Ministral-3-8B": ("mistral3", {"text_config": {"model_type": "ministral3"}}),
    "OpenGVLab/InternVL3-78B-hf": (
        "internvl",
        {"vision_config": {"image_size": [32, 32], "patch_size": [4, 4], "use_qk_norm": True, "norm_type": "rms_norm"}},
    ),
    "OpenGVLab/InternVL3_5-8B-HF": ("internvl", {"text_config": {"model_type": "qwen3"}}),
    "OpenGVLab/InternVL3_5-30B-A3B-HF": ("internvl", {"text_config": {"model_type": "qwen3_moe"}}),
    "OpenGVLab/InternVL3_5-GPT-OSS-20B-A4B-Preview-HF": (
        "internvl", {"text_config": {"model_type": "gpt_oss", "sliding_window": 512}}
    ),
    "facebook/Perception-LM-8B": (  # a tower without a class token
        "perception_lm",
        {"vision_use_cls_token": False, "vision_config": {**SIGLIP, "model_args": {"embed_dim": 32}, "patch_size": 4}},
    ),
    "facebook/chameleon-30b": ("chameleon", {"swin_norm": True}),
    "LiquidAI/LFM2.5-VL-1.6B": ("lfm2_vl", {"projector_use_layernorm": False}),
    "google/gemma-4-E2B": (
        "gemma4", {"text_config": {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]}}
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": ("qwen2_5_vl", {"tie_word_embeddings": True}),
}  # fmt: skip


@pytest.mark.parametrize("checkpoint", VARIANTS)
def test_every_law_holds(checkpoint, monkeypatch):
    monkeypatch.setattr(reference, "logit_size", lambda logits: 1.0)
    model_type, changes = VARIANTS[checkpoint]
    results = laws.check(make_tiny_model(lookup.family(model_type), **changes))
    assert all(result.passed for result in results), results


def test_the_grids_of_pixtral_are_those_of_its_images():
    """A count of tokens that is a square number does not make an image a square."""
    family = lookup.family("llava")
    model = make_tiny_model(family, **VARIANTS["mistral-community/pixtral-12b"][1])
    inputs = make_batch(model, family, [(1, 5)])
    side = model.config.vision_config.patch_size
    inputs["image_sizes"] = torch.tensor([[2 * side, 8 * side]])
    inputs["pixel_values"] = torch.randn(1, 3, 2 * side, 8 * side)
    inputs["input_ids"] = torch.tensor([[5, *[model.config.image_token_id] * 16, 6, 7]])
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        (item,) = prune_inputs(model, inputs, keep=4).report.items
    assert item.grid == (1, 2, 8)


@pytest.mark.parametrize("checkpoint", ["Salesforce/blip2-flan-t5-xl", "Salesforce/instructblip-flan-t5-xl"])
@torch.no_grad()
def test_a_separate_decoder_begins_by_itself(checkpoint):
    model_type, changes = VARIANTS[checkpoint]
    family = lookup.family(model_type)
    model = make_tiny_model(family, **changes)
    inputs = make_batch(model, family, [(1, 5), (1, 3)])
    del inputs["decoder_input_ids"]
    short = prune_inputs(model, inputs, keep=1.0)
    assert torch.equal(model.generate(**short, max_new_tokens=4), model.generate(**inputs, max_new_tokens=4))
    labels = torch.tensor([[5, 6, 7], [8, 9, -100]])
    torch.testing.assert_close(model(**short, labels=labels).loss, model(**inputs, labels=labels).loss)
