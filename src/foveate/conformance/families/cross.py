"""Models that attend across to their images."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.visual_input import VisualInput


class TinyCrossAttention(TinyFamily):
    """Tiny models of `CrossAttention`."""

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """All states; the dropped ones and padding are hidden from every text token."""
        encoded = self.family.encode(model, inputs)
        gone = self.family.encoder_inputs(model, inputs)
        rest = {name: value for name, value in inputs.items() if name not in gone}
        real = torch.zeros_like(encoded.owner, dtype=torch.bool)
        for (row, columns), item in zip(encoded.places(), items, strict=True):
            real[row, columns[item.kept.to(columns.device)]] = True
        states = encoded.states * (encoded.owner >= 0)[..., None]
        return {**rest, **self.family.across(model, states, self.family.seen(inputs, encoded) & real[:, None], real)}
