"""PaddleOCR-VL: pictures of any size as patches that keep their shape, and M-RoPE."""

from __future__ import annotations

from typing import Any

from foveate.conformance.families.patches import TinyPatches


class TinyPaddleOCRVL(TinyPatches):
    """Tiny models of `PaddleOCRVL`."""

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Channels and sides."""
        side = config.vision_config.patch_size
        return (3, side, side)
