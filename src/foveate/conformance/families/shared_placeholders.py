"""Clips on the placeholders of pictures: told apart by the marks around a clip, encoded together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs
from foveate.models.item import Item
from foveate.models.shared_placeholders import encoded_inputs, join_outputs


class TinyTogether(TinyFamily):
    """Tiny models of `Together`."""

    def mask_dropped(self, model: Any, inputs: Inputs, items: Sequence[Item], kept: Sequence[Tensor]) -> dict[str, Any]:
        """As they come, unless both are there."""
        full = super().mask_dropped(model, inputs, items, kept)
        if len(self.family.present(inputs)) == 1:
            return full
        ready = encoded_inputs(self.family, model, full)
        whole = [torch.arange(len(item.embeds)) for item in items]
        joined = join_outputs(ready["mm_encoder_outputs"]["image"], items, whole)
        return {**ready, "mm_encoder_outputs": {"image": joined}}
