"""Kimi K2.5: text tokens inside the markers of images and video chunks."""

from collections.abc import Sequence
from typing import Any

from foveate.conformance.families.patches import PATCH_GRIDS, TinyPatches
from foveate.models.base import Inputs
from foveate.models.inputs import find_modalities
from foveate.models.shared_placeholders import encoded_inputs
from foveate.models.visual_input import Grid, VisualInput


class TinyKimiK25(TinyPatches):
    """Tiny models of `KimiK25`."""

    patch_grids = {**PATCH_GRIDS, "video": ((2, 4, 4), (1, 4, 4), (3, 4, 6))}

    def patch_shape(self, config: Any) -> tuple[int, ...]:
        """Channels, height, width."""
        side = config.vision_config.patch_size
        return (3, side, side)

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Text tokens for the time and the kind come before the placeholders."""
        start, *ids = super().prompt_ids(config, modality, tokens, grid)
        return [*([20, 21] if modality == "video" else []), start, 22, 23, *ids]

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """With videos encoded by `encode`."""
        full = super().mask_dropped(model, inputs, items)
        return encoded_inputs(self.family, model, full) if "video" in find_modalities(self.family, inputs) else full
