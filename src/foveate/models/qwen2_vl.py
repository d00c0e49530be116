"""Qwen2-VL: images and videos of any size, merged patches, three-axis rotary positions (M-RoPE)."""

from foveate.models.patches import Patches


class Qwen2VL(Patches):
    """Qwen2-VL; M-RoPE, dynamic resolution."""
