"""Qwen2.5-VL: pictures of any size, merged patches, three-axis rotary positions (M-RoPE)."""

from __future__ import annotations

from dataclasses import replace

from foveate.models.patches import Patches


class Qwen25VL(Patches):
    """`Qwen2_5_VLForConditionalGeneration`."""

    traits = replace(
        Patches.traits, summary="Qwen2.5-VL; M-RoPE, dynamic resolution, window attention in the tower", in_decoder=True
    )
