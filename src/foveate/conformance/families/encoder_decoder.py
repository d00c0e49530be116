"""Models whose encoder reads the prompt, and whose decoder attends across to its output."""

from typing import Any

import torch

from foveate.conformance.tiny_family import TinyFamily
from foveate.models.base import Inputs


class TinyEncoderDecoder(TinyFamily):
    """Tiny models of `EncoderDecoder`."""

    def prompt_inputs(self, config: Any, inputs: Inputs) -> dict[str, Any]:
        """The first tokens of the decoder."""
        ids = torch.arange(10, 13, device=inputs["input_ids"].device).repeat(len(inputs["input_ids"]), 1)
        ids[:, 0] = self.family.begin(config)
        return {"decoder_input_ids": ids}

    def select_inputs(self, config: Any, inputs: Inputs, modality: str, row: int, items: range) -> dict[str, Any]:
        """With the decoder's tokens of the row."""
        own = inputs["decoder_input_ids"][row : row + 1]
        return {**super().select_inputs(config, inputs, modality, row, items), "decoder_input_ids": own}
