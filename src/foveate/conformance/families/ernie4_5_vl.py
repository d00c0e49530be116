"""ERNIE 4.5 VL: videos of an even number of frames."""

from typing import Any

from foveate.conformance.families.patches import PATCH_GRIDS, TinyPatches
from foveate.models.visual_input import Grid


class TinyErnie45VL(TinyPatches):
    """Tiny models of `Ernie45VL`."""

    patch_grids = {**PATCH_GRIDS, "video": ((4, 4, 4), (2, 4, 6))}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Markers of the modality at both ends."""
        start, end = (getattr(config, f"{modality}_{end}_token_id") for end in ("start", "end"))
        return [start, *super().prompt_ids(config, modality, tokens, grid), end]
