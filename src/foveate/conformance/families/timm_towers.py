"""Gemma 3n, FastVLM and PerceptionLM: the published towers are timm's, and others stand in where timm is missing."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.tiled import TinyGemma
from foveate.conformance.tiny_config import image_size
from foveate.conformance.tiny_family import TinyFamily

TOWERS: dict[str, dict[str, Any]] = {
    "fast_vlm": {
        "model_type": "timm_wrapper", "architecture": "fastvit_mci3", "do_pooling": True, "global_pool": "avg",
        "hidden_size": 64,
        "model_args": {"inference_mode": True, "layers": [1] * 5, "embed_dims": [8, 16, 16, 32, 32]},
    },
    "gemma3n": {
        "architecture": "mobilenetv5_300m_enc", "hidden_size": 2048, "vocab_size": 10, "vocab_offset": 300,
        "model_args": {"channel_multiplier": 0.05, "msfa_output_resolution": 4},
    },
    "perception_lm": {
        "model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "do_pooling": True,
        "global_pool": "map",
        "model_args": {
            "embed_dim": 32, "num_heads": 2, "depth": 2, "patch_size": 7, "img_size": [56, 56], "global_pool": "",
            "use_post_transformer_norm": False, "init_values": 0.1, "ref_feat_shape": [8, 8],
        },
    },
}  # fmt: skip
RESNET: dict[str, Any] = {
    "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic",
    "hidden_size": 16, "vocab_size": 10, "vocab_offset": 300, "rms_norm_eps": 1e-6, "image_size": 32,
}  # fmt: skip


def has_timm() -> bool:
    """Whether the towers that the checkpoints have can be made."""
    from transformers.utils.import_utils import is_timm_available

    return bool(is_timm_available())


class TinyTimm(TinyFamily):
    """Tiny models of families with a tower of timm's."""

    def make_config(self, **changes: Any) -> Any:
        """With a small tower of the published architecture."""
        own = {"vision_config": TOWERS[self.family.model_type]} if has_timm() else {}
        return super().make_config(**{**own, **changes})


class TinyFastVlm(TinyTimm):
    """Tiny models of `FastVlm`."""


class TinyPerceptionLM(TinyTimm):
    """Tiny models of `PerceptionLM`."""

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Two tiles, or three frames."""
        count = 2 if modality == "image" else 3
        side = image_size(config)
        return {self.main_inputs[modality]: torch.randn(sum(rows), count, 3, side, side, generator=rng)}


class TinyGemma3n(TinyTimm, TinyGemma):
    """Tiny models of `Gemma3n`."""

    def make_config(self, **changes: Any) -> Any:
        """Without timm with a ResNet, whose output has the same shape."""
        from transformers import CONFIG_MAPPING

        config = super().make_config(**changes)
        if not has_timm():
            vars(config)["vision_config"] = CONFIG_MAPPING["resnet"](**RESNET)  # an assignment would insist on timm's
        return config
