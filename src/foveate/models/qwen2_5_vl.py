"""Qwen2.5-VL: images of any size, merged patches, three-axis rotary positions (M-RoPE)."""

from dataclasses import replace

from foveate.models.patches import Patches


class Qwen25VL(Patches):
    """Qwen2.5-VL; M-RoPE, dynamic resolution, window attention in the tower."""

    traits = replace(Patches.traits, in_decoder=True)
