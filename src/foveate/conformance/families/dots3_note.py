"""dots3-note: pictures and clips of any size as merged patches, sounds in chunks of a minute, plain positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.patches import TinyPatches

SAMPLES = (6400, 3000)  # of the example's sounds


class TinyDots3Note(TinyPatches):
    """Tiny models of `Dots3Note`."""

    overrides = {
        "text_config": {
            "num_hidden_layers": 3, "layer_types": ["indexed_attention", "sliding_attention", "indexed_attention"],
            "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 16,
            "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "head_dim": 16, "v_head_dim": 16,
            "index_head_dim": 16, "index_n_heads": 2, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4,
            "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16, "swa_head_dim": 16, "swa_qk_nope_head_dim": 8,
            "swa_v_head_dim": 16, "shared_experts_intermediate_size": 32,
        },
        "vision_config": {
            "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "mlp_layer_types": ["dense", "sparse"],
            "num_local_experts": 4, "moe_intermediate_size": 32, "adapter_in_dim": 32, "adapter_out_dim": 64,
        },
        "audio_config": {
            "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "feature_size": 16,
            "downsample_hidden_size": 8, "adapter_input_size": 32, "adapter_out_dim": 64, "initializer_range": 0.2,
        },
    }  # fmt: skip

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Sounds of different lengths beside the pictures and clips."""
        if modality != "audio":
            return super().make_inputs(config, modality, rows, rng)
        sound = config.audio_config
        lengths = torch.tensor([SAMPLES[i % len(SAMPLES)] for i in range(sum(rows))])
        heard = torch.randn(len(lengths), sound.feature_size, max(SAMPLES) // sound.hop_length, generator=rng)
        return {"input_features": heard, "chunk_sample_lengths": lengths}
