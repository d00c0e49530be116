"""What the configurations of tiny models must say, for the families that need nothing else; by `config.model_type`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# fmt: off
CLIP = {"model_type": "clip_vision_model", "num_hidden_layers": 3}
PINPOINTS = [[32, 32], [32, 64], [64, 32], [64, 64]]
GOT_OCR2 = {
    "vision_config": {
        "image_size": 64, "patch_size": 4, "output_channels": 8, "window_size": 3, "global_attn_indexes": [1],
        "initializer_range": 0.02,
    },
}
INTERNVL = {"vision_config": {"image_size": [32, 32], "patch_size": [4, 4]}}
LLAVA_NEXT = {"image_grid_pinpoints": PINPOINTS, "vision_config": CLIP}
QWEN3_5 = {
    "text_config": {
        "head_dim": 32, "rope_parameters": {
            "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2],
            "partial_rotary_factor": 0.5, "rope_theta": 10000.0,
        },
    },
    "vision_config": {"patch_size": 4},
}
QWEN3_VL = {
    "text_config": {
        "num_hidden_layers": 3, "bos_token_id": 300, "eos_token_id": 302, "pad_token_id": 300,
        "rope_parameters": {
            "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_theta": 10000.0,
        },
    },
    "vision_config": {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "patch_size": 4},
    "vision_start_token_id": 303, "vision_end_token_id": 304, "image_token_id": 305, "video_token_id": 306,
}

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "aya_vision": {"text_config": {"sliding_window": 512}, "vision_config": {"patch_size": 4}},
    "cohere2_vision": {
        "text_config": {"sliding_window": 512}, "vision_config": {"patch_size": 4}, "alignment_intermediate_size": 48,
    },
    "cohere_compass": {
        "text_config": {
            "num_hidden_layers": 4, "sliding_window": 512, "head_dim": 16,
            "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "sliding_attention": {
                    "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2],
                    "rope_theta": 10000.0,
                },
                "full_attention": None,
            },
        },
        "vision_config": {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "patch_size": 4},
    },
    "cosmos3_edge": {
        "text_config": {
            "head_dim": 16, "rope_parameters": {
                "rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"num_patches": 16}, "projector_hidden_size": 96,
    },
    "cosmos3_omni": QWEN3_VL,
    "exaone4_5": {
        "text_config": {
            "model_type": "exaone4", "num_hidden_layers": 2, "sliding_window": 512,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "vision_config": {"depth": 4, "fullatt_block_indexes": [1, 3], "window_size": 16, "patch_size": 4},
    },
    "fast_vlm": {
        "vision_config": {  # the real tower is timm's
            "model_type": "convnext", "hidden_size": 32, "hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2,
            "image_size": 32, "patch_size": 4,
        },
    },
    "glm5_next": {
        "text_config": {
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "qk_rope_head_dim": 0,
            "index_topk": 512, "index_head_dim": 16, "index_n_heads": 2, "linear_head_dim": 16, "linear_num_heads": 4,
            "hc_mult": 2, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        },
        "vision_config": {"projection_intermediate_size": 64},
    },
    "got_ocr2": GOT_OCR2,
    "granite4_vision": {
        "text_config": {"num_hidden_layers": 6},
        "vision_config": {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 3, "patch_size": 4},
        "qformer_config": {
            "hidden_size": 64, "encoder_hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1,
            "cross_attention_frequency": 1, "use_qformer_text_input": False,
        },
        "downsample_rate": "2/4", "image_grid_pinpoints": PINPOINTS,
        "deepstack_layer_map": [[-3, 1], [-1, 0]], "spatial_vision_layer": -2, "spatial_target_layers": [2, 3, 4, 5],
    },
    "hy_v4_vl": {
        "text_config": {
            "num_hidden_layers": 3, "head_dim": 8, "num_attention_heads": 4, "num_key_value_heads": 4,
            "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "indexer_types": ["full", "full", "shared"], "index_topk": 16,
            "index_head_dim": 16, "index_n_heads": 8, "mlp_layer_types": ["dense", "sparse", "sparse"],
            "layer_types": ["indexed_attention"] * 3, "hc_mult": 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
        },
        "vision_config": {"patch_size": 4, "max_image_size": 64},
    },
    "hyperclovax_vision_v2": {
        "text_config": {
            "model_type": "hyperclovax", "embedding_multiplier": 2.0, "logits_scaling": 0.5,
            "residual_multiplier": 0.5,
        },
        "vision_config": {
            "model_type": "qwen2_5_vl_vision", "depth": 4, "fullatt_block_indexes": [1, 3], "window_size": 16,
            "patch_size": 4, "out_hidden_size": 48,
        },
    },
    "internvl": INTERNVL,
    "janus": {
        "vision_config": {"projection_dim": 64, "num_image_tokens": 16},
        "vq_config": {
            "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1, "latent_channels": 32,
            "num_embeddings": 32, "projection_dim": 64, "image_token_embed_dim": 64,
        },
    },
    "lfm3_vl": {
        "text_config": {
            "num_hidden_layers": 4, "layer_types": ["conv", "sliding_attention", "full_attention", "conv"],
            "sliding_window": 512,
        },
        "vision_config": {"num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"], "patch_size": 4},
        "projector_hidden_size": 64,
    },
    "lighton_ocr": {"vision_config": {"image_size": 64, "patch_size": 4}},
    "llava": {
        "text_config": {"model_type": "llama", "bos_token_id": 300, "eos_token_id": 301, "pad_token_id": 302},
        "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 3},
        "image_token_index": 303,
        "vision_feature_layer": -2,
    },
    "llava_next": LLAVA_NEXT,
    "llava_next_video": LLAVA_NEXT,
    "mistral_large4": {
        "text_config": {
            "num_hidden_layers": 5, "no_rope_layers": [1, 1, 1, 0, 1], "kv_source_layers": [0, 1, 1, 3, 1],
            "indexer_types": ["full", "full", "shared", "full", "full"], "index_topk": 16, "index_head_dim": 16,
            "index_n_heads": 8, "num_key_value_heads": 4, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "head_dim": 8,
        },
        "vision_config": {"image_size": 64, "patch_size": 4},
    },
    "paligemma": {
        "text_config": {
            "model_type": "gemma2", "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"],
        },
        "vision_config": {"vision_use_head": False, "projection_dim": 64},
        "projection_dim": 64,
    },
    "pp_chart2table": GOT_OCR2,
    "qianfan_ocr": INTERNVL,
    "qwen2_5_vl": {
        "text_config": {
            "num_hidden_layers": 2, "bos_token_id": 300, "eos_token_id": 302, "pad_token_id": 300,
            "rope_parameters": {
                "rope_type": "default", "type": "mrope", "mrope_section": [2, 3, 3], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"depth": 4, "fullatt_block_indexes": [1, 3], "window_size": 16, "patch_size": 4},
        "vision_start_token_id": 303, "vision_end_token_id": 304, "image_token_id": 305, "video_token_id": 306,
    },
    "qwen2_vl": {
        "text_config": {
            "rope_parameters": {
                "rope_type": "default", "type": "mrope", "mrope_section": [2, 3, 3], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"hidden_size": 64, "patch_size": 4},  # its hidden size is the language model's
    },
    "qwen3_5": QWEN3_5,
    "qwen3_5_moe": QWEN3_5,
    "qwen3_omni_moe_thinker": {
        "text_config": {
            "num_hidden_layers": 3,
            "rope_parameters": {
                "rope_type": "default", "mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_theta": 10000.0,
            },
        },
        "vision_config": {"depth": 4, "deepstack_visual_indexes": [0, 1, 2], "patch_size": 4},
        "audio_config": {"n_window_infer": 100, "downsample_hidden_size": 16},
        "vision_start_token_id": 316, "vision_end_token_id": 317, "audio_end_token_id": 318,
    },
    "qwen3_vl": QWEN3_VL,
    "qwen3_vl_moe": QWEN3_VL,
    "vipllava": {
        "vision_config": {"model_type": "clip_vision_model", "num_hidden_layers": 4},
        "vision_feature_layers": [-2, -3, 1],
    },
}
# fmt: on
