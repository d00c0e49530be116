"""PaliGemma: images of one size before a prompt that attends to itself in both directions."""

from typing import Any

import torch
from torch import Tensor

from foveate.models.base import Family, Inputs


class PaliGemma(Family):
    """PaliGemma and PaliGemma 2; the whole prompt attends to itself in both directions.

    Of Gemma or (PaliGemma 2) Gemma 2, whose windows count kept tokens.
    """

    def token_types(self, config: Any, inputs: Inputs) -> Tensor:
        """0 for all of the prompt, images too; 1 marks the answers that a loss is taken on."""
        return torch.zeros_like(inputs["input_ids"])
