"""HunYuan-VL: pictures of any size, learned tokens at each end and after every row, RoPE with a picture's number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveate.conformance.families.patches import TinyPatches
from foveate.models.base import Inputs
from foveate.models.visual_input import Grid, VisualInput


class TinyHunYuanVL(TinyPatches):
    """Tiny models of `HunYuanVL`."""

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """Without that row here too."""
        full = super().mask_dropped(model, inputs, items)
        return {**full, "position_ids": full["position_ids"][1:]}

    def prompt_ids(self, config: Any, modality: str, tokens: int, grid: Grid | None) -> list[int]:
        """Marks around the placeholders."""
        return [config.im_start_id, *super().prompt_ids(config, modality, tokens, grid), config.im_end_id]
