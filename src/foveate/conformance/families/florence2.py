"""Florence-2: padded on the right."""

from collections.abc import Sequence
from typing import Any

import torch

from foveate.conformance.families.encoder_decoder import TinyEncoderDecoder
from foveate.models.base import Inputs
from foveate.models.visual_input import VisualInput


class TinyFlorence2(TinyEncoderDecoder):
    """Tiny models of `Florence2`."""

    pads_left = False

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """Without positions, which the model does not take."""
        made = super().mask_dropped(model, inputs, items)
        return {name: value for name, value in made.items() if name != "position_ids"}

    def make_inputs(self, config: Any, modality: str, rows: Sequence[int], rng: torch.Generator) -> dict[str, Any]:
        """Images of 2 x 2 tokens."""
        return {"pixel_values": torch.randn(sum(rows), 3, 64, 64, generator=rng)}
