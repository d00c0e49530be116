"""Tiny configurations of any architecture: its defaults, with the numbers that make it large made small by name."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

FIRST_SPECIAL = 300
VOCABULARY = 320
TEXT: dict[str, int] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "d_model": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 16,
    "max_position_embeddings": 512, "layers": 2, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96,
    "ffn_dim": 96, "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "n_shared_experts": 1, "n_group": 1,
    "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
    "v_head_dim": 16, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}  # fmt: skip
ENCODER: dict[str, int] = {
    "hidden_size": 32, "embed_dim": 32, "hidden_dim": 32, "dim": 32, "d_model": 32, "width": 32,
    "intermediate_size": 48, "mlp_dim": 48, "encoder_ffn_dim": 48, "num_hidden_layers": 2, "depth": 2, "n_layers": 2,
    "layers": 2, "encoder_layers": 2, "num_attention_heads": 2, "num_heads": 2, "n_heads": 2, "heads": 2,
    "encoder_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "image_size": 32, "patch_size": 8,
    "num_position_embeddings": 64, "projection_dim": 32, "out_hidden_size": 64, "output_hidden_size": 64,
    "vision_output_dim": 64, "output_dim": 64, "text_hidden_size": 64, "num_mel_bins": 16,
}  # fmt: skip
ENCODERS = ("vision", "vit", "visual", "audio", "qformer", "perceiver", "resampler", "sam", "vq", "high_res", "low_res")


def read_overrides(model_type: str) -> dict[str, Any] | None:
    """What `configs.json` says for this model type; a name there stands for what that model type has."""
    table = json.loads((files("foveate.conformance") / "configs.json").read_text())
    overrides: dict[str, Any] | str | None = table.get(model_type)
    return table[overrides] if isinstance(overrides, str) else overrides


def make_config(model_type: str, overrides: Mapping[str, Any]) -> Any:
    """The default configuration of `model_type` made small, but for the `overrides` (nested keyword arguments).

    Special tokens get ids from 300 on, those of one name the same in every part.
    """
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[model_type](**overrides)
    _shrink(config, "text", overrides)
    _number_special_tokens(config, overrides, {})
    return config


def image_size(config: Any) -> int:
    """The side of the images that the vision tower expects, in pixels; 256 where a timm tower takes any."""
    vision = config.vision_config
    size = getattr(vision, "image_size", None) or (getattr(vision, "model_args", None) or {}).get("img_size", 256)
    return int(size[0] if isinstance(size, (list, tuple)) else size)


def _parts(config: Any) -> dict[str, Any]:
    """The configurations inside a configuration."""
    from transformers import PreTrainedConfig

    return {name: value for name, value in vars(config).items() if isinstance(value, PreTrainedConfig)}


def _shrink(config: Any, name: str, overrides: Any) -> None:
    """Make the numbers of a configuration, and of those inside it, small by name."""
    sizes = ENCODER if any(word in name for word in ENCODERS) else TEXT
    own = overrides if isinstance(overrides, Mapping) else {}
    for key, value in list(vars(config).items()):
        if key in sizes and isinstance(value, int) and not isinstance(value, bool) and key not in own:
            setattr(config, key, sizes[key])
    for key in ("layer_types", "mlp_layer_types"):
        kinds = getattr(config, key, None)
        if isinstance(kinds, list) and len(kinds) > 2 and key not in own and "num_hidden_layers" not in own:
            setattr(config, key, [kinds[0], kinds[-1]])
    rope = getattr(config, "rope_parameters", None)
    if isinstance(rope, dict) and "mrope_section" in rope and "rope_parameters" not in own:
        half = int(config.head_dim * rope.get("partial_rotary_factor", 1.0)) // 2 if hasattr(config, "head_dim") else 8
        rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]
    for key, part in _parts(config).items():
        _shrink(part, key, own.get(key))


def _number_special_tokens(config: Any, overrides: Any, ids: dict[str, int]) -> None:
    """Number the special tokens of a configuration, and of those inside it; `ids` are those numbered so far."""
    own = overrides if isinstance(overrides, Mapping) else {}
    for key, value in list(vars(config).items()):
        if not key.endswith(("_token_id", "_token_index")) or key in own or value is None:
            continue
        name = key.replace("_token_index", "_token_id")
        ids.setdefault(name, FIRST_SPECIAL + len(ids))
        setattr(config, key, ids[name])
    for key, part in _parts(config).items():
        _number_special_tokens(part, own.get(key), ids)
