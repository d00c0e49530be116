"""Qwen3-VL: as Qwen2.5-VL, with interleaved M-RoPE, features of several vision layers (DeepStack), and timestamps."""

from dataclasses import replace
from typing import Any

from foveate.models.patches import Timestamped


class Qwen3VL(Timestamped):
    """Qwen3-VL; M-RoPE, dynamic resolution, DeepStack, a timestamp before every frame."""

    traits = replace(Timestamped.traits, in_decoder=True)

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)
