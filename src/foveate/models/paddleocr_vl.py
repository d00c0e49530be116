"""PaddleOCR-VL: images of any size as patches that keep their shape, and M-RoPE."""

from dataclasses import replace

from foveate.models.patches import Patches


class PaddleOCRVL(Patches):
    """PaddleOCR-VL; M-RoPE, dynamic resolution."""

    traits = replace(Patches.traits, modalities=("image",))
