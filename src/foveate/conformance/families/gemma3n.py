"""Gemma 3n: a tower of transformers instead of timm's."""

from typing import Any

from foveate.conformance.families.gemma3 import TinyGemma

TOWER: dict[str, Any] = {
    "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic",
    "hidden_size": 16, "vocab_size": 10, "vocab_offset": 300, "rms_norm_eps": 1e-6, "image_size": 32,
}  # fmt: skip


class TinyGemma3n(TinyGemma):
    """Tiny models of `Gemma3n`."""

    def make_config(self, **changes: Any) -> Any:
        """With a ResNet in place of timm's MobileNet, whose output has the same shape."""
        from transformers import CONFIG_MAPPING

        config = super().make_config(**changes)
        vars(config)["vision_config"] = CONFIG_MAPPING["resnet"](**TOWER)  # an assignment would insist on timm's
        return config
