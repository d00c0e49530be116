"""Gemma 3n: a convolutional tower whose last map is the picture's tokens; every layer reads the ids once more."""

from __future__ import annotations

from typing import Any

from foveate.conformance.families.gemma3 import TinyGemma

TOWER: dict[str, Any] = {
    "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic",
    "hidden_size": 16, "vocab_size": 10, "vocab_offset": 300, "rms_norm_eps": 1e-6, "image_size": 32,
}  # fmt: skip


class TinyGemma3n(TinyGemma):
    """Tiny models of `Gemma3n`."""

    overrides = {
        "text_config": {
            "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2, "intermediate_size": 96,
            "num_kv_shared_layers": 2, "vocab_size_per_layer_input": 300, "laurel_rank": 4,
            "activation_sparsity_pattern": [0.95, 0.0, 0.95, 0.0],
            "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2,
        },
        "audio_config": {"conf_num_hidden_layers": 1, "conf_num_attention_heads": 2, "vocab_offset": 310},
        "vision_soft_tokens_per_image": 16,
        "boi_token_id": 298, "boa_token_id": 299, "eoi_token_id": 300, "image_token_id": 301, "eoa_token_id": 310,
        "audio_token_id": 311,
    }  # fmt: skip

    def make_config(self, **changes: Any) -> Any:
        """With another tower of the same output where timm's MobileNet would be."""
        from transformers import CONFIG_MAPPING

        config = super().make_config(**changes)
        vars(config)["vision_config"] = CONFIG_MAPPING["resnet"](**TOWER)  # an assignment would insist on timm's
        return config
