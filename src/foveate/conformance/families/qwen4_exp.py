"""Qwen4-Exp: as Qwen3.5, with attention to chosen blocks, several residual streams and embeddings of n-grams."""

from __future__ import annotations

from typing import Any

from foveate.conformance.families.patches import TinyTimestamped


class TinyQwen4Exp(TinyTimestamped):
    """Tiny models of `Qwen4Exp`."""

    overrides = {
        "text_config": {
            "num_hidden_layers": 2, "layer_types": ["linear_attention", "indexed_attention"], "head_dim": 32,
            "rope_parameters": {
                "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2],
                "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
            },
            "hc_lowrank": 16, "ple_layer_ids": [1], "ple_embed_dim": 32, "heads_per_ngram": 2,
            "ngram_vocab_size_base": 64, "make_ngram_vocab_size_divisible_by": 8, "eos_token_id": 319,
            "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16, "indexer_budget": 16,
            "indexer_compress_ratio": 4,
        },
        "vision_config": {"patch_size": 4},
    }  # fmt: skip

    def randomize_zeros(self, model: Any) -> None:
        """The convolution over n-grams starts at zero."""
        for layer in self.family.decoder(model).layers:
            if layer.ple is not None:
                layer.ple.conv1d.weight.normal_(std=0.05)
