"""HunYuan-VL: markers of its own around images."""

from collections.abc import Sequence
from typing import Any

from foveate.conformance.families.patches import TinyPatches
from foveate.models.base import Inputs
from foveate.models.visual_input import VisualInput


class TinyHunYuanVL(TinyPatches):
    """Tiny models of `HunYuanVL`."""

    markers = ("im_start_id", "im_end_id")

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """Without the row of positions that counts tokens."""
        full = super().mask_dropped(model, inputs, items)
        return {**full, "position_ids": full["position_ids"][1:]}
