"""Videos on the placeholders of images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.inputs import find_modalities
from foveate.models.shared_placeholders import encoded_inputs, join_outputs
from foveate.models.visual_input import VisualInput


class TinyTogether(TinyFamily):
    """Tiny models of `Together`."""

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[VisualInput]) -> dict[str, Any]:
        """Images and videos encoded together where both are there."""
        full = super().mask_dropped(model, inputs, items)
        if len(find_modalities(self.family, inputs)) == 1:
            return full
        ready = encoded_inputs(self.family, model, full)
        whole = [replace(item, kept=torch.arange(item.total)) for item in items]
        joined = join_outputs(ready["mm_encoder_outputs"]["image"], whole)
        return {**ready, "mm_encoder_outputs": {"image": joined}}
