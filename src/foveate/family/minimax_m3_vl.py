"""MiniMax-M3-VL: patches of any size, merged two by two behind the projector."""

from __future__ import annotations

from foveate.family.patches import Patches


class MiniMaxM3VL(Patches):
    """`MiniMaxM3SparseForConditionalGeneration`. The blocks that sparse layers choose among count kept tokens."""

    summary = "MiniMax-M3-VL; dynamic resolution, block-sparse attention"
    tiny = {
        "text_config": {
            "hidden_size": 64, "rotary_dim": 8, "index_n_heads": 2, "index_head_dim": 16, "num_hidden_layers": 2, "layer_types": ["full_attention", "minimax_m3_sparse"],
            "mlp_layer_types": ["dense", "sparse"], "dense_intermediate_size": 96,
            "shared_intermediate_size": 96,
        },
        "projector_hidden_size": 64,
    }  # fmt: skip
