"""Cohere Compass: images as in Qwen3-VL, in a decoder of windowed layers and layers that may go without positions."""

from typing import Any

from foveate.models.patches import Timestamped


class CohereCompass(Timestamped):
    """Cohere Compass; M-RoPE, windowed layers, DeepStack, a timestamp before every frame.

    The attention window counts kept tokens.
    """

    def whole_layers(self, config: Any) -> int:
        """One for each level of DeepStack."""
        return len(config.vision_config.deepstack_visual_indexes)
