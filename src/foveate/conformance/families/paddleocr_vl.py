"""PaddleOCR-VL: patches that keep their shape."""

from typing import Any

from foveate.conformance.families.patches import TinyPatches


class TinyPaddleOCRVL(TinyPatches):
    """Tiny models of `PaddleOCRVL`."""

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Channels, height, width."""
        side = config.vision_config.patch_size
        return (3, side, side)
