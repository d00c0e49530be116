"""Configurations of published models, and noise in the shape of the image inputs that they take."""

from typing import Any

import torch
from torch import Tensor

from foveate.errors import InputError

Size = tuple[int, int]
"""Height and width in pixels."""

_VICUNA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 32001,
}  # fmt: skip
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
_QWEN_TEXT = {
    "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 128000, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True, "use_sliding_window": False, "bos_token_id": 151643, "eos_token_id": 151645,
    "pad_token_id": 151643,
    "rope_parameters": {"rope_type": "default", "type": "mrope", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
}  # fmt: skip
_QWEN_VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "tokens_per_second": 2,
    "hidden_act": "silu", "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
_QWEN_IDS = {
    "vision_start_token_id": 151652, "vision_end_token_id": 151653, "image_token_id": 151655, "video_token_id": 151656,
}  # fmt: skip
_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
LLAVA = {
    "text_config": _VICUNA, "vision_config": CLIP, "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default", "image_token_index": 32000,
}  # fmt: skip
LLAVA_NEXT = {**LLAVA, "image_grid_pinpoints": _PINPOINTS}
QWEN = {"text_config": _QWEN_TEXT, "vision_config": _QWEN_VISION, "tie_word_embeddings": True, **_QWEN_IDS}
_QWEN_7B_TEXT = {
    **_QWEN_TEXT, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
QWEN_7B = {
    "text_config": _QWEN_7B_TEXT, "vision_config": {**_QWEN_VISION, "out_hidden_size": 3584},
    "tie_word_embeddings": False, **_QWEN_IDS,
}  # fmt: skip

INTERNVL = {
    "text_config": {
        "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 151674, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32768, "bos_token_id": 151643, "eos_token_id": 151645, "pad_token_id": 151643,
    },
    "vision_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True,
    },
    "image_token_id": 151667, "downsample_ratio": 0.5, "tie_word_embeddings": False,
}  # fmt: skip

SMOLVLM = {
    "text_config": {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 49280, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 16384, "bos_token_id": 1, "eos_token_id": 49279, "pad_token_id": 2,
    },
    "vision_config": {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 384, "patch_size": 14,
    },
    "image_token_id": 49190, "pad_token_id": 2, "scale_factor": 3, "tie_word_embeddings": False,
}  # fmt: skip


def make_square(config: Any, size: Size, generator: torch.Generator) -> dict[str, Tensor]:
    """LLaVA-1.5 reads one size. Raises `InputError` for another."""
    side = config.vision_config.image_size
    if size != (side, side):
        raise InputError(
            f"A LLaVA-1.5 scales every image to {side}x{side}: leave --image-size out, "
            "or bench a model that reads other sizes, such as llava-next-7b or qwen2.5-vl-3b."
        )
    return {"pixel_values": torch.randn(1, 3, side, side, generator=generator)}


def make_tiles(config: Any, size: Size, generator: torch.Generator) -> dict[str, Tensor]:
    """LLaVA-NeXT reads the overview, then the tiles."""
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    side = config.vision_config.image_size
    count = image_size_to_num_patches(size, config.image_grid_pinpoints, side)
    return {
        "pixel_values": torch.randn(1, count, 3, side, side, generator=generator),
        "image_sizes": torch.tensor([size]),
    }


def make_crops(config: Any, size: Size, generator: torch.Generator) -> dict[str, Tensor]:
    """InternVL reads up to 12 tiles, then the overview, and an image of one tile alone."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    height, width = config.vision_config.image_size
    processor = GotOcr2ImageProcessorPil(size={"height": height, "width": width}, crop_to_patches=True)
    count = processor.get_number_of_image_patches(*size, {})
    return {"pixel_values": torch.randn(count, 3, height, width, generator=generator)}


def make_split(config: Any, size: Size, generator: torch.Generator) -> dict[str, Tensor]:
    """SmolVLM reads tiles of an image whose longer side is four of them, then the overview."""
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    side = config.vision_config.image_size
    processor = SmolVLMImageProcessorPil(size={"longest_edge": 4 * side}, max_image_size={"longest_edge": side})
    count = processor.get_number_of_image_patches(*size)[0] or 1
    pixels = torch.randn(1, count, 3, side, side, generator=generator)
    return {"pixel_values": pixels, "pixel_attention_mask": torch.ones(1, count, side, side, dtype=torch.bool)}


def make_patches(config: Any, size: Size, generator: torch.Generator) -> dict[str, Tensor]:
    """Qwen2.5-VL reads patches, as many as its processor would make."""
    vision = config.vision_config
    cell = vision.patch_size * vision.spatial_merge_size
    height, width = (max(1, round(side / cell)) * vision.spatial_merge_size for side in size)  # as the processor rounds
    channels = 3 * vision.temporal_patch_size * vision.patch_size**2
    return {
        "pixel_values": torch.randn(height * width, channels, generator=generator),
        "image_grid_thw": torch.tensor([[1, height, width]]),
    }
